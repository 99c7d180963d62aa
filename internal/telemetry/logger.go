// Package telemetry provides what both programs share to run and to be observed:
// logging, request ids, metrics, traces, and an HTTP server that drains before it stops.
// Metrics and traces are off unless they are configured, and then cost nothing.
package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// NewLogger returns a logger that writes to out in format "json" or "text", at or above
// level ("debug", "info", "warn" or "error"). A line that is logged with a request's
// context includes the request id, and the trace and span ids if there are any. Unless
// level is "debug", there are at most 20 lines per second with the same message, followed
// by one that counts the rest.
func NewLogger(out io.Writer, level, format string) (*slog.Logger, error) {
	var min slog.Level
	if err := min.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}
	options := &slog.HandlerOptions{Level: min}
	var handler slog.Handler = slog.NewJSONHandler(out, options)
	if format == "text" {
		handler = slog.NewTextHandler(out, options)
	}
	handler = requestIDHandler{handler}
	if min > slog.LevelDebug {
		handler = newLimitHandler(handler)
	}
	return slog.New(handler), nil
}

// requestIDHandler adds the request, trace and span ids of the context to each line.
type requestIDHandler struct{ slog.Handler }

func (h requestIDHandler) Handle(ctx context.Context, record slog.Record) error {
	if id := RequestID(ctx); id != "" {
		record.AddAttrs(slog.String("request_id", id))
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		record.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, record)
}

func (h requestIDHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestIDHandler{h.Handler.WithAttrs(attrs)}
}

func (h requestIDHandler) WithGroup(name string) slog.Handler {
	return requestIDHandler{h.Handler.WithGroup(name)}
}

const (
	// maxLines is the largest number of lines with the same message in a window: enough to
	// see what happens, and few even if many clients are refused.
	maxLines  = 20
	logWindow = time.Second
	// maxMessages bounds memory. Messages are constants, except for those of net/http,
	// which contain the addresses of clients.
	maxMessages  = 256
	otherMessage = "(others)"
)

// limitHandler drops lines if there are too many with the same message, and logs at the
// end of the window how many it dropped. The libraries that sample lines do not count
// them.
type limitHandler struct {
	slog.Handler

	limit *lineLimit
}

func newLimitHandler(to slog.Handler) limitHandler {
	return limitHandler{to, &lineLimit{to: to, counts: map[string]*lineCount{}}}
}

func (h limitHandler) Handle(ctx context.Context, record slog.Record) error {
	if !h.limit.admit(record.Message, record.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, record)
}

func (h limitHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return limitHandler{h.Handler.WithAttrs(attrs), h.limit}
}

func (h limitHandler) WithGroup(name string) slog.Handler {
	return limitHandler{h.Handler.WithGroup(name), h.limit}
}

// lineLimit counts the lines of the current window. A window begins with its first line
// and ends by a timer, so an idle program has none.
type lineLimit struct {
	to slog.Handler

	mu      sync.Mutex // guards the fields below
	counts  map[string]*lineCount
	running bool
}

type lineCount struct {
	lines int
	level slog.Level // the highest
}

func (l *lineLimit) admit(message string, level slog.Level) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := l.counts[message]
	if count == nil && len(l.counts) >= maxMessages {
		message = otherMessage
		count = l.counts[message]
	}
	if count == nil {
		count = &lineCount{level: level}
		l.counts[message] = count
	}
	if !l.running {
		l.running = true
		time.AfterFunc(logWindow, l.endWindow)
	}
	count.lines++
	count.level = max(count.level, level)
	return count.lines <= maxLines
}

func (l *lineLimit) endWindow() {
	l.mu.Lock()
	ended := l.counts
	l.counts, l.running = map[string]*lineCount{}, false
	l.mu.Unlock()
	for message, count := range ended {
		if count.lines <= maxLines {
			continue
		}
		record := slog.NewRecord(time.Now(), count.level, "lines were left out", 0)
		record.AddAttrs(slog.String("message", message), slog.Int("count", count.lines-maxLines))
		_ = l.to.Handle(context.Background(), record) // there is nowhere to report the error
	}
}

// tokenPattern matches the access tokens of gateway/access.
var tokenPattern = regexp.MustCompile(`kv(?:_|%5[Ff])[0-9A-Za-z_%-]{20,}`)

// tokenParameters are common names of parameters that contain a token.
var tokenParameters = map[string]bool{
	"access_token": true, "auth_token": true, "token": true, "bearer": true, "api_key": true,
}

// WithoutTokens returns the path and query of a URL in a form that is safe to log. Access
// tokens are not accepted there, but a client may have tried.
func WithoutTokens(target string) string {
	path, query, found := strings.Cut(target, "?")
	if !found {
		return withoutOurTokens(target)
	}
	var out strings.Builder
	out.WriteString(withoutOurTokens(path))
	separator := "?"
	for parameter := range strings.SplitSeq(query, "&") {
		out.WriteString(separator)
		separator = "&"
		name, _, valued := strings.Cut(parameter, "=")
		decoded, err := url.QueryUnescape(name)
		if valued && err == nil && tokenParameters[strings.ToLower(decoded)] {
			parameter = name + "=..."
		}
		out.WriteString(withoutOurTokens(parameter))
	}
	return out.String()
}

func withoutOurTokens(text string) string {
	if !strings.Contains(text, "kv") {
		return text
	}
	return tokenPattern.ReplaceAllString(text, "kv_...")
}
