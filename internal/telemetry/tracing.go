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

// flushTimeout bounds how long the end of a program waits for its last spans. With
// DrainTimeout it is shorter than the 30 s after which supervisors kill.
const flushTimeout = 3 * time.Second

// Tracing sends the spans of one program to a collector.
type Tracing struct {
	provider *sdktrace.TracerProvider
	logger   *slog.Logger
}

// StartTracing returns nil, and costs nothing from then on, unless getenv names an
// endpoint: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT as it is, or OTEL_EXPORTER_OTLP_ENDPOINT
// with /v1/traces behind it. Spans go there as OTLP over HTTP, in batches and never on
// a request's path; those that the collector does not take in time are dropped. The
// other variables of OpenTelemetry (headers, certificates, OTEL_TRACES_SAMPLER,
// OTEL_RESOURCE_ATTRIBUTES) are read by its SDK from the environment of the process.
func StartTracing(ctx context.Context, program string, getenv func(string) string, logger *slog.Logger) (*Tracing, error) {
	endpoint := settings.TracesEndpoint(getenv)
	if endpoint == "" {
		return nil, nil //nolint:nilnil // nil is documented, and a value
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint))
	if err != nil {
		return nil, fmt.Errorf("trace to %s: %w", endpoint, err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(semconv.ServiceNamespace("kvstore"), semconv.ServiceName(program), semconv.ServiceVersion(Version)),
		resource.WithFromEnv(), resource.WithTelemetrySDK(), resource.WithHost(), resource.WithProcessPID())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("describe the program for traces: %w", err), exporter.Shutdown(ctx))
	}
	// One for the process: OpenTelemetry has no other.
	otel.SetErrorHandler(&failures{logger: logger})
	logger.Info("traces are sent", "endpoint", endpoint)
	return &Tracing{sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about)), logger}, nil
}

// failures log that tracing failed, once in a period: under load there are many
// batches of spans, and a collector that is gone fails each.
type failures struct {
	logger *slog.Logger

	mu     sync.Mutex // guards what follows
	until  time.Time  // when the next one is logged
	silent int        // how many were not
}

const failurePeriod = time.Minute

// Handle takes an error of OpenTelemetry.
func (f *failures) Handle(err error) {
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

// Tracer returns what spans are started with, nil when t is.
func (t *Tracing) Tracer() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.provider.Tracer("kvstore")
}

// Close sends the spans that have not been sent, for 3 seconds at most; that it could
// not is logged, and no failure of the program. To close a nil *Tracing does nothing.
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

// Traced gives each request a span, within the trace that its traceparent names, and
// returns next itself when tracer is nil. The handler says which route it is with
// DescribeRequest; a key never gets into a span.
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

// KnownMethod returns method, or _OTHER for one that is not in use.
func KnownMethod(method string) string {
	if i := methodIndex(method); i < len(methods)-1 {
		return methods[i]
	}
	return "_OTHER"
}

// DescribeRequest names the span of a request by its route, which may be OtherRoute,
// and notes its status and the id under which the logs have it.
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
