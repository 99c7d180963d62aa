package telemetry_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"

	"kvstore/internal/telemetry"
	"kvstore/internal/telemetry/telemetrytest"
)

// TestNoTracing checks that the handler is not wrapped if there is no endpoint.
func TestNoTracing(t *testing.T) {
	for _, env := range []map[string]string{nil, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}} {
		tracing, err := telemetry.StartTracing(t.Context(), "test", func(name string) string { return env[name] }, slog.New(slog.DiscardHandler))
		if tracing != nil || err != nil || tracing.Tracer() != nil {
			t.Errorf("%v: %v, %v", env, tracing, err)
		}
		tracing.Close()
	}
	mux := http.NewServeMux()
	if telemetry.Traced(mux, nil) != http.Handler(mux) {
		t.Error("a handler is wrapped")
	}
}

// TestTraced checks that the span of a request belongs to the caller's trace, that log
// lines contain it, and that Close sends it.
func TestTraced(t *testing.T) {
	collector := telemetrytest.NewCollector(t)
	env := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL}
	tracing, err := telemetry.StartTracing(t.Context(), "test", func(name string) string { return env[name] }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	log := &telemetrytest.Journal{}
	logger, err := telemetry.NewLogger(log, "debug", "json")
	if err != nil {
		t.Fatal(err)
	}
	handler := telemetry.Traced(telemetry.Requests(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		telemetry.DescribeRequest(trace.SpanFromContext(r.Context()), r.Method, "/get/{key}", telemetry.RequestID(r.Context()), 500)
	}), logger), tracing.Tracer())
	request := httptest.NewRequest(http.MethodGet, "/get/secret", http.NoBody)
	request.Header.Set("X-Request-Id", "the-id")
	request.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	handler.ServeHTTP(httptest.NewRecorder(), request)
	tracing.Close()
	spans := collector.Spans()
	if len(spans) != 1 {
		t.Fatalf("%d spans", len(spans))
	}
	s := spans[0]
	if s.Service != "test" || s.Name != "GET /get/{key}" || s.Trace != "0af7651916cd43dd8448eb211c80319c" || s.Parent != "b7ad6b7169203331" || !s.Failed {
		t.Errorf("span %+v", s)
	}
	if s.Attributes["http.route"] != "/get/{key}" || s.Attributes["http.response.status_code"] != "500" || s.Attributes["kv.request_id"] != "the-id" {
		t.Errorf("attributes %v", s.Attributes)
	}
	for name, value := range s.Attributes {
		if strings.Contains(value, "secret") {
			t.Errorf("the key is in %s", name)
		}
	}
	if !strings.Contains(log.String(), `"trace_id":"`+s.Trace+`","span_id":"`+s.ID+`"`) {
		t.Errorf("the log does not name the span: %s", log)
	}
}

// TestFailuresAreLoggedRarely checks that not every failed batch of spans is logged.
func TestFailuresAreLoggedRarely(t *testing.T) {
	log := &telemetrytest.Journal{}
	env := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
	tracing, err := telemetry.StartTracing(t.Context(), "test", func(name string) string { return env[name] }, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer tracing.Close()
	for range 1000 {
		otel.Handle(errors.New("the collector is gone"))
	}
	if n := strings.Count(log.String(), "tracing failed"); n != 1 {
		t.Errorf("%d lines", n)
	}
}
