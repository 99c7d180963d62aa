package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"

	"kvstore/internal/problem"
	"kvstore/internal/settings"
	"kvstore/internal/telemetry"
)

// An exchange is what belongs to one forwarded request; its context carries it.
type exchange struct {
	id      string      // the request id
	target  *url.URL    // what the backend is asked for, without its host
	body    *clientBody // nil when the request has none
	stream  bool        // the answer may begin late and never ends
	backend string      // where the request went last
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// forward sends r to a backend and answers with what comes back.
func (p *Proxy) forward(w http.ResponseWriter, r *http.Request) {
	if err := p.pool.differ(); err != nil {
		writeUnavailable(w, "backends_differ", err.Error())
		return
	}
	target, ok := originForm(r.RequestURI)
	if !ok || r.Method == http.MethodConnect {
		problem.New(http.StatusBadRequest, "bad_request", "The request target has no path").Write(w)
		return
	}
	if r.ContentLength > p.maxBody {
		p.writeTooLarge(w)
		return
	}
	x := &exchange{id: telemetry.RequestID(r.Context()), target: targetURL(target), stream: isStream(r)}
	ctx := context.WithValue(r.Context(), exchangeKey{}, x)
	if x.stream {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(p.streaming, cancel)()
	}
	r = r.WithContext(ctx)
	if r.ContentLength != 0 {
		x.body = newClientBody(w, r, p.maxBody, p.bodyTimeout)
		r.Body = x.body
	}
	// The answer brings the id, or fail sets it. ReverseProxy empties the headers
	// when it passes on a 100 Continue, so it would be lost here.
	w.Header().Del(telemetry.RequestIDHeader)
	p.reverse.ServeHTTP(w, r)
	if x.body != nil && !x.body.atEnd() {
		// The transport may still read what is left of the body, and net/http panics
		// when it does so after the handler returned (golang/go#68560). The answer
		// goes out first, since Close waits for a read in progress. A handler that
		// panics does not come here: its connection ends.
		_ = http.NewResponseController(w).Flush()
		_ = x.body.Close()
	}
}

func (p *Proxy) newReverseProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      p.transport,
		FlushInterval:  -1,
		BufferPool:     &buffers{},
		ModifyResponse: setRequestID,
		ErrorHandler:   p.fail,
		ErrorLog:       slog.NewLogLogger(p.logger.Handler(), slog.LevelWarn),
	}
}

// rewrite makes the request that is sent. ReverseProxy has taken away the
// headers of the client's connection and those that tell of earlier hops, and
// has cleaned the query; the last two are undone.
func rewrite(r *httputil.ProxyRequest) {
	x := exchangeOf(r.In.Context())
	r.Out.URL = x.target
	header := r.Out.Header
	if x.id != "" {
		header.Set(telemetry.RequestIDHeader, x.id)
	}
	// ReverseProxy keeps an upgrade of the protocol; no endpoint has one.
	header.Del("Connection")
	header.Del("Upgrade")
	setForwarded(header, r.In)
	hideIdempotencyKeys(header)
}

// setForwarded adds the client's address to X-Forwarded-For. The host and the
// protocol are those that an earlier hop told, else those of this one.
func setForwarded(header http.Header, in *http.Request) {
	if client, _, err := net.SplitHostPort(in.RemoteAddr); err == nil {
		hops := append(slices.Clip(in.Header["X-Forwarded-For"]), client)
		header.Set("X-Forwarded-For", strings.Join(hops, ", "))
	}
	keep(header, in, "X-Forwarded-Host", in.Host)
	keep(header, in, "X-Forwarded-Proto", "http")
	keep(header, in, "Forwarded", "")
}

// keep gives header what in has under name, or own if in has nothing.
func keep(header http.Header, in *http.Request, name, own string) {
	if told := in.Header[name]; len(told) > 0 {
		header[name] = slices.Clone(told)
	} else if own != "" {
		header.Set(name, own)
	}
}

// hideIdempotencyKeys keeps http.Transport from sending a write twice: it takes
// a request without a body for repeatable when its header map has one of these
// keys. Names of headers have no case, so the backend reads the same.
func hideIdempotencyKeys(header http.Header) {
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, found := header[name]; found {
			delete(header, name)
			header[strings.ToLower(name)] = values
		}
	}
}

// setRequestID gives the answer the id of the request, whatever the backend said.
func setRequestID(answer *http.Response) error {
	if x := exchangeOf(answer.Request.Context()); x.id != "" {
		answer.Header.Set(telemetry.RequestIDHeader, x.id)
	}
	return nil
}

// fail answers a request that got no answer from a backend.
func (p *Proxy) fail(w http.ResponseWriter, r *http.Request, err error) {
	ctx := r.Context()
	x := exchangeOf(ctx)
	if x.id != "" {
		w.Header().Set(telemetry.RequestIDHeader, x.id)
	}
	if x.body != nil {
		if cause := x.body.failure(); cause != nil {
			p.failBody(ctx, w, cause)
			return
		}
	}
	if x.stream && p.streaming.Err() != nil {
		writeUnavailable(w, "backend_unavailable", "Backend service is unavailable")
		return
	}
	if ctx.Err() != nil {
		p.logger.DebugContext(ctx, "client went away")
		cut()
	}
	p.logger.WarnContext(ctx, "no answer from backend", "backend", x.backend, "cause", err.Error())
	switch {
	case errors.Is(err, ErrBackendsDiffer):
		writeUnavailable(w, "backends_differ", err.Error())
	case isTimeout(err):
		problem.New(http.StatusGatewayTimeout, "backend_timeout", "Backend service timed out").Write(w)
	default:
		writeUnavailable(w, "backend_unavailable", "Backend service is unavailable")
	}
}

// failBody answers a request whose body could not be read. The rest of it may
// still be on its way, so the connection ends.
func (p *Proxy) failBody(ctx context.Context, w http.ResponseWriter, cause error) {
	var tooLarge *http.MaxBytesError
	var network net.Error
	switch {
	case errors.As(cause, &tooLarge):
		p.writeTooLarge(w)
	case isTimeout(cause):
		w.Header().Set("Connection", "close")
		problem.New(http.StatusRequestTimeout, "request_timeout", "The request body did not arrive in time").Write(w)
	case errors.Is(cause, io.ErrUnexpectedEOF), errors.Is(cause, io.EOF), errors.As(cause, &network):
		p.logger.DebugContext(ctx, "client went away while sending its body")
		cut()
	default:
		w.Header().Set("Connection", "close")
		problem.New(http.StatusBadRequest, "bad_request", "The request body is malformed").Write(w)
	}
}

// cut ends the client's connection without an answer, or in the middle of one.
func cut() {
	panic(http.ErrAbortHandler) //nolint:forbidigo // the way that net/http has for it
}

func (p *Proxy) writeTooLarge(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	detail := fmt.Sprintf("body: is over the limit of %d bytes (KV_MAX_VALUE_BYTES plus %d)", p.maxBody, settings.EnvelopeBytes)
	problem.New(http.StatusRequestEntityTooLarge, "value_too_large", detail).Write(w)
}

func writeUnavailable(w http.ResponseWriter, code, detail string) {
	w.Header().Set("Retry-After", "1")
	problem.New(http.StatusServiceUnavailable, code, detail).Write(w)
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}

const bufferSize = 32 << 10

// buffers keeps the buffers through which answers are copied.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if buffer, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return buffer[:]
	}
	return make([]byte, bufferSize)
}

func (b *buffers) Put(buffer []byte) { b.pool.Put((*[bufferSize]byte)(buffer)) }
