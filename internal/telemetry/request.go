package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"kvstore/internal/problem"
)

// RequestIDHeader names a request, the same at every hop.
const RequestIDHeader = "X-Request-Id"

const maxRequestIDLength = 128

type requestIDKey struct{}

// RequestID returns the id of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// Requests gives every request an id and every answer the header that tells it:
// the caller's id when it is sane, else a new one. It logs each request at debug
// level and each answer of 500 and above at warn level, and it turns a panic of
// next into a 500 that hides the cause from the client and logs it.
func Requests(next http.Handler, logger *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		id := r.Header.Get(RequestIDHeader)
		if !saneRequestID(id) {
			id = uuid.NewString()
			r.Header.Set(RequestIDHeader, id)
		}
		w.Header().Set(RequestIDHeader, id)
		ctx := r.Context()
		client := clientOf(ctx)
		if client != nil {
			ctx = requestContext{client.broken, ctx}
		}
		ctx = context.WithValue(ctx, requestIDKey{}, id)
		request := r.WithContext(ctx)
		answer := &answer{ResponseWriter: w, client: client}
		if client != nil && r.ContentLength != 0 {
			answer.body = &requestBody{ReadCloser: r.Body}
			request.Body = answer.body
		}
		defer func() {
			if cause := recover(); cause != nil {
				answer.recovered(ctx, logger, cause)
			}
			answer.log(ctx, logger, r, time.Since(start))
			answer.end()
		}()
		next.ServeHTTP(answer, request)
	})
}

// saneRequestID keeps ids that are safe in a header, a log line and a shell.
func saneRequestID(id string) bool {
	if id == "" || len(id) > maxRequestIDLength {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '-', c == '_', c == '.', c == ':', c == '/', c == '+', c == '=':
		default:
			return false
		}
	}
	return true
}

// answer notes the status that was sent.
type answer struct {
	http.ResponseWriter
	client *clientConn  // nil without one of Serve
	body   *requestBody // nil without
	status int
	quiet  bool
}

// early prepares an answer that comes before the end of its request. net/http reads on
// for up to 256 KiB before it sends an answer, to keep the connection, and here for as
// long as refusalPause; what lasts longer is for drain.
func (a *answer) early() {
	if a.body != nil && !a.body.ended {
		a.client.lingers.Store(true)
		_ = a.client.SetReadDeadline(time.Now().Add(refusalPause)) // fails on a closed connection
	}
}

// end must be called behind the handler.
func (a *answer) end() {
	if a.status == 0 {
		a.early()
	}
}

// Quiet says that an answer of 500 and above has no line in the log of its own, but at
// debug level: whoever calls it logs such answers in sum.
func Quiet(w http.ResponseWriter) {
	for {
		switch writer := w.(type) {
		case *answer:
			writer.quiet = true
			return
		case interface{ Unwrap() http.ResponseWriter }:
			w = writer.Unwrap()
		default:
			return
		}
	}
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK {
		a.early()
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	return a.ResponseWriter.Write(b)
}

// Flush passes a flush on; streams need it.
func (a *answer) Flush() { _ = http.NewResponseController(a.ResponseWriter).Flush() }

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) recovered(ctx context.Context, logger *slog.Logger, cause any) {
	if err, ok := cause.(error); ok && err == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
		panic(cause) //nolint:forbidigo // the intended way to cut an answer short
	}
	logger.ErrorContext(ctx, "panic", "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
	if a.status == 0 {
		problem.New(http.StatusInternalServerError, "internal", "Internal error; the log has the request id").Write(a)
	}
}

func (a *answer) log(ctx context.Context, logger *slog.Logger, r *http.Request, took time.Duration) {
	level := slog.LevelDebug
	if a.status >= http.StatusInternalServerError && !a.quiet {
		level = slog.LevelWarn
	}
	if !logger.Enabled(ctx, level) {
		return
	}
	logger.Log(ctx, level, "request", "method", r.Method, "uri", WithoutTokens(r.RequestURI), "status", a.status,
		"duration_us", took.Microseconds(), "remote", r.RemoteAddr)
}
