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

// Metrics are those of one program, and where they are served.
type Metrics struct {
	registry *prometheus.Registry
	listener net.Listener
	server   *http.Server
	served   chan error
}

// ServeMetrics listens on address and answers GET /metrics there, and nothing else,
// until Close. The metrics of the Go runtime and the process, and kv_build_info,
// are there from the start. An empty address means no metrics: it returns nil,
// which every method accepts.
func ServeMetrics(ctx context.Context, program, address string, logger *slog.Logger) (*Metrics, error) {
	if address == "" {
		return nil, nil //nolint:nilnil // nil is documented, and a value
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
		ErrorLog: errorLog, MaxRequestsInFlight: mostScrapes, Timeout: scrapeTimeout,
	}))
	m.server = &http.Server{Handler: mux, ReadHeaderTimeout: HeaderTimeout, IdleTimeout: IdleTimeout, ErrorLog: errorLog}
	go func() { m.served <- m.server.Serve(listener) }()
	logger.Info("metrics are served", "address", listener.Addr().String(), "path", "/metrics")
	return m, nil
}

const (
	mostScrapes   = 4
	scrapeTimeout = 10 * time.Second
)

// Register adds collectors. A name that is registered twice is a defect, and
// panics.
func (m *Metrics) Register(collectors ...prometheus.Collector) {
	if m != nil {
		m.registry.MustRegister(collectors...)
	}
}

// Requests returns what counts requests under names that begin with prefix, for
// routes, or nil when m is.
func (m *Metrics) Requests(prefix string, routes []string) *RequestMetrics {
	if m == nil {
		return nil
	}
	r := newRequestMetrics(prefix, routes)
	m.Register(r.total, r.duration, r.inFlight, r.refused)
	return r
}

// Close ends the server at once. To close a nil *Metrics does nothing.
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
