package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"

	"kvstore/internal/settings"
)

// flushTimeout bounds how long a stopping program waits to send its last spans. Together
// with DrainTimeout it is shorter than the 30 s after which supervisors kill.
const flushTimeout = 3 * time.Second

// Tracing sends the spans of a program to a collector. A nil *Tracing is valid and does
// nothing.
type Tracing struct {
	provider *sdktrace.TracerProvider
	logger   *slog.Logger
}

// StartTracing starts tracing to the endpoint in the environment (see
// settings.TracesEndpoint). It returns nil if there is none. Spans are sent as OTLP over
// HTTP, in batches and in the background. They are dropped if the collector does not keep
// up. OpenTelemetry's SDK reads its other variables (headers, certificates,
// OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES) from the environment of the process.
func StartTracing(
	ctx context.Context, program string, getenv func(string) string, logger *slog.Logger,
) (*Tracing, error) {
	endpoint := settings.TracesEndpoint(getenv)
	if endpoint == "" {
		return nil, nil //nolint:nilnil // as documented
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint))
	if err != nil {
		return nil, fmt.Errorf("trace to %s: %w", endpoint, err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(
			semconv.ServiceNamespace("kvstore"), semconv.ServiceName(program), semconv.ServiceVersion(Version)),
		resource.WithFromEnv(), resource.WithTelemetrySDK(), resource.WithHost(), resource.WithProcessPID())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("describe the program for traces: %w", err), exporter.Shutdown(ctx))
	}
	// OpenTelemetry has only this global handler.
	otel.SetErrorHandler(&failureLog{logger: logger})
	logger.Info("traces are sent", "endpoint", endpoint)
	return &Tracing{sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about)), logger}, nil
}

// failureLog logs at most one failure in a period: if the collector is gone, every batch
// fails.
type failureLog struct {
	logger *slog.Logger

	mu     sync.Mutex // guards the fields below
	until  time.Time  // when to log again
	silent int        // failures that were not logged
}

const failurePeriod = time.Minute

// Handle implements otel.ErrorHandler.
func (f *failureLog) Handle(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if now.Before(f.until) {
		f.silent++
		return
	}
	f.logger.Warn("tracing failed", "error", err, "not_logged_before", f.silent)
	f.until, f.silent = now.Add(failurePeriod), 0
}

// Tracer returns the tracer of the program, or nil if t is nil.
func (t *Tracing) Tracer() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.provider.Tracer("kvstore")
}

// Close sends the remaining spans, for at most flushTimeout. A failure is only logged.
func (t *Tracing) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.logger.Warn("the last spans were not sent", "error", err)
	}
}

// Traced wraps next and gives each request a span, in the trace of its traceparent. The
// handler calls DescribeRequest with the route. Keys never get into a span. If tracer is
// nil, Traced returns next.
func Traced(next http.Handler, tracer trace.Tracer) http.Handler {
	if tracer == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		method := KnownMethod(r.Method)
		ctx, span := tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
			semconv.HTTPRequestMethodKey.String(method), semconv.URLScheme("http"),
			semconv.NetworkProtocolVersion(fmt.Sprintf("%d.%d", r.ProtoMajor, r.ProtoMinor))))
		defer span.End()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// KnownMethod returns method, or _OTHER if it is unknown.
func KnownMethod(method string) string {
	if i := methodIndex(method); i < len(methods)-1 {
		return methods[i]
	}
	return "_OTHER"
}

// DescribeRequest names the span of a request after its route, which may be OtherRoute, and
// adds the status and the request id.
func DescribeRequest(span trace.Span, method, route, requestID string, status int) {
	if !span.IsRecording() {
		return
	}
	if route != OtherRoute {
		span.SetName(KnownMethod(method) + " " + route)
		span.SetAttributes(semconv.HTTPRoute(route))
	}
	span.SetAttributes(semconv.HTTPResponseStatusCode(status), attribute.String("kv.request_id", requestID))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
}
