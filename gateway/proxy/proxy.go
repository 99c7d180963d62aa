package proxy

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"kvstore/gateway/access"
	"kvstore/gateway/h1"
	"kvstore/internal/telemetry"
)

const (
	// By default a client has this long for a body, and a second more for every slowestBody
	// bytes that a body may have.
	leastBodyTimeout = time.Minute
	slowestBody      = 64 << 10
)

// Config is what New needs. Fields without a default must be set.
type Config struct {
	// Limits bound connections and times. The default of BodyTimeout is a minute and a second
	// for every 64 KiB of MaxValueBytes. MaxHeaderBytes, HeaderTimeout, IdleTimeout and
	// DrainTimeout have the defaults of package telemetry.
	h1.Limits

	// Backends are the base URLs of the backends, http://host:port. There must be at least one.
	// Several must serve the same store. Reads, GET and HEAD, are spread over those that are
	// healthy; every other request goes to the first of these.
	Backends []*url.URL
	// MaxValueBytes bounds bodies, by settings.LimitOfBody and LimitOfBatch.
	MaxValueBytes int64
	// ProbeInterval is the time between two probes of a backend, by default a second.
	// ProbeTimeout bounds the answers to probes and to questions for health, by default two
	// seconds.
	ProbeInterval, ProbeTimeout time.Duration
	// MaxLag is how long a backend may not have confirmed that it has the store's last commit. One
	// that lags more is tried after those that are healthy. The default is a second.
	MaxLag time.Duration
	// DrainDelay bounds how long Serve goes on before it drains, so that load balancers learn
	// from /healthz that it stops.
	DrainDelay time.Duration
	// RateLimit bounds the requests of a client in a second, on average; 0 means no limit.
	// RateBurst, at least 1, is how many may come at once above that.
	RateLimit, RateBurst int
	// MaxRequestsPerClient bounds the requests of a client in flight, including watches.
	// MaxWatchersPerClient bounds its watches.
	MaxRequestsPerClient, MaxWatchersPerClient int
	// Access decides who may do what. If it is nil, everybody may do everything.
	Access *access.Guard
	Logger *slog.Logger
	// Requests, unless nil, counts requests by the labels of Routes.
	Requests *telemetry.RequestMetrics
	// Tracer, unless nil, makes spans of requests.
	Tracer trace.Tracer
}

// A Proxy is the gateway.
type Proxy struct {
	cfg      Config // with its defaults
	logger   *slog.Logger
	server   *h1.Server
	backends *backends
	name     string // in Via
	clients  *clients
	checkers *checkers

	forRead, forWrite func() h1.Order // of backends

	base   context.Context //nolint:containedctx // it ends in Close
	cancel context.CancelFunc
}

// New returns a proxy. It probes the backends, within ProbeTimeout, and goes on to probe them until
// ctx ends or Close is called. The error wraps ErrBackendsDiffer if backends serve different
// stores. It is no error if a backend does not answer.
func New(ctx context.Context, cfg Config) (*Proxy, error) {
	if len(cfg.Backends) == 0 {
		return nil, errors.New("proxy: no backends")
	}
	cfg = withDefaults(cfg)
	p := &Proxy{
		cfg:      cfg,
		logger:   cfg.Logger,
		name:     "kv-gateway-" + strings.ToLower(rand.Text()[:16]), // unique: a request that has it was here before
		clients:  newClients(cfg),
		checkers: newCheckers(),
	}
	p.base, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.backends = newBackends(p.base, cfg, p.name)
	p.forRead, p.forWrite = p.backends.forRead, p.backends.forWrite
	p.server = h1.New(p.base, h1.Config{
		Limits: cfg.Limits, NewHandler: p.newHandler, Replaced: replaced, Leave: p.leave, Patrol: p.patrol, Logger: cfg.Logger,
	})
	p.backends.start(ctx, cfg.ProbeInterval)
	if err := p.backends.differ(); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func withDefaults(cfg Config) Config {
	cfg.BodyTimeout = cmp.Or(cfg.BodyTimeout, leastBodyTimeout+time.Duration(cfg.MaxValueBytes/slowestBody)*time.Second)
	cfg.HeaderTimeout = cmp.Or(cfg.HeaderTimeout, telemetry.HeaderTimeout)
	cfg.IdleTimeout = cmp.Or(cfg.IdleTimeout, telemetry.IdleTimeout)
	cfg.DrainTimeout = cmp.Or(cfg.DrainTimeout, telemetry.DrainTimeout)
	cfg.MaxHeaderBytes = cmp.Or(cfg.MaxHeaderBytes, telemetry.MaxHeaderBytes)
	cfg.ProbeInterval = cmp.Or(cfg.ProbeInterval, time.Second)
	cfg.ProbeTimeout = cmp.Or(cfg.ProbeTimeout, 2*time.Second)
	cfg.MaxLag = cmp.Or(cfg.MaxLag, time.Second)
	return cfg
}

// Serve serves listener until ctx ends. Then it lets load balancers know, stops accepting, ends
// streams, waits up to DrainTimeout for the requests in flight, and returns nil if all were
// answered. It always closes listener. It must be called only once.
func (p *Proxy) Serve(ctx context.Context, listener net.Listener) error {
	p.logger.Info("listening", "address", listener.Addr().String(), "version", telemetry.Version)
	return p.server.Serve(ctx, listener)
}

// patrol drops what is no longer needed.
func (p *Proxy) patrol(now time.Time) {
	p.clients.forget(now)
	for _, b := range p.backends.list {
		b.pool.Shrink(now)
	}
}

// EndStreams ends all streams, and any that begins later.
func (p *Proxy) EndStreams() { p.server.EndStreams() }

// Close ends the probes and closes the idle connections to the backends. It does not wait for
// requests in flight; Serve does.
func (p *Proxy) Close() {
	p.cancel()
	p.backends.close()
}

// Stats describe what a proxy does now and has done since New.
type Stats struct {
	Backends []BackendStats // in the order of Config.Backends
	Differ   bool           // the backends serve different stores, so all requests are refused
	Clients  int            // their connections
	Streams  int            // that are forwarded
	Retries  uint64         // how often a request was sent again on another connection
}

// BackendStats describe one backend.
type BackendStats struct {
	Address        string // host:port
	Healthy, Ready bool   // a healthy one is ready and does not lag
	Lag            time.Duration
	Revision       int64
	Reads, Writes  uint64 // requests that were sent to it
	h1.PoolStats
}

// Stats may be called at any time.
func (p *Proxy) Stats() Stats {
	stats := Stats{Clients: p.server.Connections(), Streams: p.clients.watching(), Retries: p.server.Retries()}
	stats.Differ = p.backends.differ() != nil
	p.backends.mu.Lock()
	defer p.backends.mu.Unlock()
	for _, b := range p.backends.list {
		state := b.state.Load()
		stats.Backends = append(stats.Backends, BackendStats{
			Address: b.pool.Address, Healthy: state == healthy, Ready: state == healthy || state == lagging,
			Lag: b.said.lag(), Revision: b.said.Revision,
			Reads: b.reads.Load(), Writes: b.writes.Load(), PoolStats: b.pool.Stats(),
		})
	}
	return stats
}
