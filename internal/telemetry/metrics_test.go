package telemetry_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"kvstore/internal/telemetry"
	"kvstore/internal/telemetry/telemetrytest"
)

// serveMetrics returns the URL of the metrics, from the log.
func serveMetrics(t *testing.T) (*telemetry.Metrics, string) {
	t.Helper()
	log := &telemetrytest.Journal{}
	m, err := telemetry.ServeMetrics(t.Context(), "test", "127.0.0.1:0", slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	_, rest, _ := strings.Cut(log.String(), "address=")
	address, _, _ := strings.Cut(rest, " ")
	return m, "http://" + address
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestMetrics(t *testing.T) {
	m, url := serveMetrics(t)
	requests := m.Requests("kv_http", []string{"/get/{key}", "/watch"})
	requests.Begin()
	route := requests.Route("/get/{key}")
	for range 3 {
		route.Count("GET", 200, 200*time.Microsecond, false)
	}
	route.Count("GET", 0, time.Second, false)
	route.Count("BREW", 418, time.Second, false)
	route.Count("GET", 577, time.Second, false)
	requests.Route("/watch").Count("GET", 200, time.Hour, true)
	requests.Route("/no such").Count("HEAD", 404, time.Second, false)

	status, body := get(t, url+"/metrics")
	if status != http.StatusOK {
		t.Fatal(status, body)
	}
	for _, want := range []string{
		`kv_http_requests_total{method="GET",route="/get/{key}",status="200"} 3`,
		`kv_http_requests_total{method="GET",route="/get/{key}",status="499"} 1`,
		`kv_http_requests_total{method="other",route="/get/{key}",status="418"} 1`,
		`kv_http_requests_total{method="GET",route="/get/{key}",status="577"} 1`,
		`kv_http_requests_total{method="GET",route="/watch",status="200"} 1`,
		`kv_http_requests_total{method="HEAD",route="other",status="404"} 1`,
		`kv_http_request_duration_seconds_bucket{route="/get/{key}",le="0.00025"} 3`,
		`kv_http_request_duration_seconds_count{route="/watch"} 0`,
		`kv_http_requests_in_flight 1`,
		`kv_build_info{goversion="go`,
		`go_goroutines `,
		`process_resident_memory_bytes `,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in\n%.3000s", want, body)
		}
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, path := range []string{"/", "/debug/pprof/", "/metrics/x"} {
		if status, _ := get(t, url+path); status != http.StatusNotFound {
			t.Errorf("%s answers %d", path, status)
		}
	}
}

// TestNoMetrics checks that an empty address gives nil, and that nil works.
func TestNoMetrics(t *testing.T) {
	m, err := telemetry.ServeMetrics(t.Context(), "test", "", slog.New(slog.DiscardHandler))
	if m != nil || err != nil {
		t.Fatal(m, err)
	}
	m.Register(prometheus.NewGauge(prometheus.GaugeOpts{Name: "x"}))
	if m.Requests("kv_http", nil) != nil || m.Close() != nil {
		t.Error("nil metrics count")
	}
}

func TestMetricsAddressIsTaken(t *testing.T) {
	_, url := serveMetrics(t)
	_, err := telemetry.ServeMetrics(t.Context(), "test", strings.TrimPrefix(url, "http://"), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "KV_METRICS_ADDR") {
		t.Errorf("got %v", err)
	}
}

// TestCountDoesNotAllocate checks that counting a request does not allocate.
func TestCountDoesNotAllocate(t *testing.T) {
	m, _ := serveMetrics(t)
	route := m.Requests("kv_http", []string{"/get/{key}"}).Route("/get/{key}")
	route.Count("GET", 200, time.Millisecond, false)
	if n := testing.AllocsPerRun(100, func() { route.Count("GET", 200, time.Millisecond, false) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCount(b *testing.B) {
	m, err := telemetry.ServeMetrics(b.Context(), "test", "127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	route := m.Requests("kv_http", []string{"/get/{key}"}).Route("/get/{key}")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			route.Count("GET", 200, time.Millisecond, false)
		}
	})
}
