package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics holds and serves the metrics of a program. A nil *Metrics is valid and does
// nothing.
type Metrics struct {
	registry *prometheus.Registry
	listener net.Listener
	server   *http.Server
	served   chan error
}

// ServeMetrics answers GET /metrics on address, and nothing else, until Close. It includes
// kv_build_info and the metrics of the Go runtime and the process. If address is empty, it
// returns nil.
func ServeMetrics(ctx context.Context, program, address string, logger *slog.Logger) (*Metrics, error) {
	if address == "" {
		return nil, nil //nolint:nilnil // as documented
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on KV_METRICS_ADDR: %w", err)
	}
	m := &Metrics{registry: prometheus.NewRegistry(), listener: listener, served: make(chan error, 1)}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kv_build_info", Help: "1, with the version of the program and of Go.",
	}, []string{"program", "version", "goversion"})
	build.WithLabelValues(program, Version, runtime.Version()).Set(1)
	m.Register(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	errorLog := slog.NewLogLogger(logger.Handler(), slog.LevelWarn)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: errorLog, MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout,
	}))
	m.server = &http.Server{Handler: mux, ReadHeaderTimeout: HeaderTimeout, IdleTimeout: IdleTimeout, ErrorLog: errorLog}
	go func() { m.served <- m.server.Serve(listener) }()
	logger.Info("metrics are served", "address", listener.Addr().String(), "path", "/metrics")
	return m, nil
}

const (
	maxScrapes    = 4
	scrapeTimeout = 10 * time.Second
)

// Register adds collectors. It panics if a name is registered twice.
func (m *Metrics) Register(collectors ...prometheus.Collector) {
	if m != nil {
		m.registry.MustRegister(collectors...)
	}
}

// Requests registers and returns metrics of requests to routes. Their names begin with
// prefix. It returns nil if m is nil.
func (m *Metrics) Requests(prefix string, routes []string) *RequestMetrics {
	if m == nil {
		return nil
	}
	r := newRequestMetrics(prefix, routes)
	m.Register(r.total, r.duration, r.inFlight, r.refused)
	return r
}

// Close stops the server at once.
func (m *Metrics) Close() error {
	if m == nil {
		return nil
	}
	err := m.server.Close()
	if stopped := <-m.served; !errors.Is(stopped, http.ErrServerClosed) {
		err = errors.Join(err, stopped)
	}
	return err
}

// Describe returns the description of a metric of Statistics.
func Describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// Send sends the value of a metric, with the values of its labels.
type Send func(metric *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string)

// Statistics is a collector that reads the counters of a part of a program at each scrape.
type Statistics func(Send)

// Describe implements prometheus.Collector. It describes nothing, so the registry checks
// each scrape instead.
func (s Statistics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s Statistics) Collect(to chan<- prometheus.Metric) {
	s(func(metric *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(metric, kind, value, labels...)
	})
}
