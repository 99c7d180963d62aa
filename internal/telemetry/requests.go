package telemetry

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"kvstore/internal/problem"
)

// RequestIDHeader carries the id of a request, which is the same at every hop.
const RequestIDHeader = "X-Request-Id"

const maxRequestIDLength = 128

type requestIDKey struct{}

// RequestID returns the request id in ctx, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// Requests wraps next. It gives each request an id, which is the caller's if that is safe
// and a new one otherwise, and returns it in the answer. It logs each request at debug
// level and each answer of 500 and above at warn level. If next panics, it logs the cause
// and answers 500 without it.
func Requests(next http.Handler, logger *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		id := r.Header.Get(RequestIDHeader)
		if !safeRequestID(id) {
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

// safeRequestID reports whether id is safe in a header, a log line and a shell.
func safeRequestID(id string) bool {
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

// answer records the status that was sent.
type answer struct {
	http.ResponseWriter
	client *clientConn  // nil if the connection is not from Serve
	body   *requestBody // nil if there is none
	status int
	quiet  bool
}

// early prepares an answer that begins before its request has ended. To keep the
// connection, net/http first reads up to 256 KiB more. early limits that to refusalPause,
// and leaves the rest to clientConn.drain.
func (a *answer) early() {
	if a.body != nil && !a.body.ended {
		a.client.lingers.Store(true)
		_ = a.client.SetReadDeadline(time.Now().Add(refusalPause)) // fails if the connection is closed
	}
}

// end must be called after the handler.
func (a *answer) end() {
	if a.status == 0 {
		a.early()
	}
}

// Quiet makes Requests log an answer of 500 and above only at debug level. The caller logs
// such answers in summary.
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

// Flush implements http.Flusher, for streams.
func (a *answer) Flush() { _ = http.NewResponseController(a.ResponseWriter).Flush() }

// Unwrap supports http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) recovered(ctx context.Context, logger *slog.Logger, cause any) {
	if err, ok := cause.(error); ok && err == http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
		panic(cause) //nolint:forbidigo // the documented way to abort an answer
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

// RequestIDOr returns the given id if it is safe, or else a new one. It is for servers
// that cannot use Requests.
func RequestIDOr(given []byte) string {
	if id := string(given); safeRequestID(id) {
		return id
	}
	// An id must be unique, not secret. Random numbers from the kernel would cost a
	// system call for each request.
	var id uuid.UUID
	binary.NativeEndian.PutUint64(id[:8], rand.Uint64()) //nolint:gosec // as above
	binary.NativeEndian.PutUint64(id[8:], rand.Uint64()) //nolint:gosec // as above
	id[6] = id[6]&0x0F | 0x40                            // version 4
	id[8] = id[8]&0x3F | 0x80                            // of RFC 9562
	return id.String()
}

// WithRequestID returns a context with the given request id.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}
