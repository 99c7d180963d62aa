// Package telemetry holds what both programs need to be observed and to stop
// well: logging, the request id, metrics, traces, and serving with a drain at the
// end. Metrics and traces are off unless asked for, and then nothing is wrapped.
package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// NewLogger returns a logger that writes lines of format "json" or "text" at or
// above level ("debug", "info", "warn", "error") to out. A line that is logged
// with a request's context carries its request id, and the id of its trace and span
// when it has them. Of the lines with one message there are at most 20 in a second, and
// then one that counts the rest, unless level is "debug".
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

// requestIDHandler adds the request id of the context to each line, and the trace.
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
