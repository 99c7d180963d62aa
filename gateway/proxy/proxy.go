package proxy

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/url"
	"strings"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/trace"

	"kvstore/gateway/access"
	"kvstore/gateway/h1"
	"kvstore/internal/telemetry"
)

const (
	defaultProbeInterval = time.Second
	defaultProbeTimeout  = 2 * time.Second
	// A client has this long for its body, and a second more for every
	// slowestBody bytes that a body may have.
	leastBodyTimeout = time.Minute
	slowestBody      = 64 << 10

	defaultDrainDelay           = 5 * time.Second
	defaultWriteTimeout         = 30 * time.Second
	defaultMaxConnections       = 16_384
	defaultMaxRequestsPerClient = 4_000
	defaultMaxWatchersPerClient = 1_000
	// otherFiles is how many open files there may be beside the connections.
	otherFiles = 128
)

// Config is what New needs.
type Config struct {
	// Backends are the base URLs of the backends, http://host:port each. At least
	// one; several must serve one and the same store.
	Backends []*url.URL
	// BackendTimeout bounds the wait for a backend's answer to begin, counted from
	// the moment when the request was sent whole, for each next part of the answer,
	// and for a backend to take the next part of a body. Streams (/watch) may be
	// silent, and backups begin, as long as they like.
	BackendTimeout time.Duration
	// MaxValueBytes bounds request bodies, as settings.LimitOfBody and LimitOfBatch say.
	MaxValueBytes int64
	// BodyTimeout bounds how long a client may take to send its body. 0 means a
	// minute and a second for every 64 KiB of MaxValueBytes.
	BodyTimeout time.Duration
	// ProbeInterval is the time between two probes of a backend. 0 means a second.
	ProbeInterval time.Duration
	// ProbeTimeout bounds how long a backend may take to answer a probe, and to tell of its
	// health. 0 means two seconds.
	ProbeTimeout time.Duration
	// HeaderTimeout bounds how long a client may take to send its headers. 0 means
	// telemetry.HeaderTimeout.
	HeaderTimeout time.Duration
	// WriteTimeout bounds how long a client may take for each 32 KiB of an answer, of
	// which the system buffers some. 0 means 30 s. A stream (/watch) may be silent longer.
	WriteTimeout time.Duration
	// DrainTimeout bounds how long Serve waits at its end for the requests in
	// flight. 0 means telemetry.DrainTimeout.
	DrainTimeout time.Duration
	// Access decides who may do what. nil lets everybody do everything.
	Access *access.Guard
	// DrainDelay bounds how long Serve goes on serving at its end, before it drains,
	// so that load balancers learn from /healthz that it stops. 0 means 5 s.
	DrainDelay time.Duration
	// MaxConnections bounds the clients' connections. 0 means 16,384.
	MaxConnections int
	// RateLimit is how many requests one client may send in a second, on average, and
	// RateBurst how many at once above that. A RateLimit of 0 is none.
	RateLimit, RateBurst int
	// MaxRequestsPerClient bounds what one client has under way at once, watches
	// included, and MaxWatchersPerClient its watches. 0 means 4,000 and 1,000.
	MaxRequestsPerClient, MaxWatchersPerClient int
	// Logger takes what operators must know.
	Logger *slog.Logger
	// Requests, when set, counts every request, under the routes of Routes.
	Requests *telemetry.RequestMetrics
	// Tracer, when set, makes spans of every request.
	Tracer trace.Tracer
}

// A Proxy is the gateway. It is made by New, serves with Serve and is ended by
// Close.
type Proxy struct {
	cfg      Config // with its defaults
	logger   *slog.Logger
	server   *h1.Server
	backends *backends
	order    func() h1.Order // backends.next
	name     string          // in Via
	clients  *clients
	checkers *checkers
	limit    int // of clients' connections

	// base is the context of what belongs to no request; cancel ends it in Close.
	base   context.Context //nolint:containedctx // it is no request's
	cancel context.CancelFunc
}

// New returns a proxy whose backends have been probed once, which takes
// Config.ProbeTimeout at most, and are probed until ctx ends or Close is called. The error
// wraps ErrBackendsDiffer when the backends that answered serve different stores.
// A backend that does not answer is no error.
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
	p.limit, _ = connectionLimit(cfg.MaxConnections)
	p.base, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.backends = newBackends(p.base, cfg, p.name)
	p.order = p.backends.next
	p.server = h1.New(p.base, h1.Config{
		NewHandler:     p.newHandler,
		Replaced:       replaced,
		MaxHeaderBytes: telemetry.MaxHeaderBytes,
		MaxConnections: p.limit,
		HeaderTimeout:  cfg.HeaderTimeout,
		BodyTimeout:    cfg.BodyTimeout,
		WriteTimeout:   cfg.WriteTimeout,
		IdleTimeout:    telemetry.IdleTimeout,
		BackendTimeout: cfg.BackendTimeout,
		DrainTimeout:   cfg.DrainTimeout,
		Leave:          p.leave,
		Patrol:         p.patrol,
		Logger:         cfg.Logger,
	})
	p.backends.start(ctx, cfg.ProbeInterval)
	if err := p.backends.differ(); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func withDefaults(cfg Config) Config {
	if cfg.BodyTimeout == 0 {
		cfg.BodyTimeout = leastBodyTimeout + time.Duration(cfg.MaxValueBytes/slowestBody)*time.Second
	}
	cfg.ProbeInterval = cmp.Or(cfg.ProbeInterval, defaultProbeInterval)
	cfg.ProbeTimeout = cmp.Or(cfg.ProbeTimeout, defaultProbeTimeout)
	cfg.DrainTimeout = cmp.Or(cfg.DrainTimeout, telemetry.DrainTimeout)
	cfg.HeaderTimeout = cmp.Or(cfg.HeaderTimeout, telemetry.HeaderTimeout)
	cfg.WriteTimeout = cmp.Or(cfg.WriteTimeout, defaultWriteTimeout)
	cfg.DrainDelay = cmp.Or(cfg.DrainDelay, defaultDrainDelay)
	cfg.MaxConnections = cmp.Or(cfg.MaxConnections, defaultMaxConnections)
	cfg.RateBurst = max(cfg.RateBurst, 1)
	cfg.MaxRequestsPerClient = cmp.Or(cfg.MaxRequestsPerClient, defaultMaxRequestsPerClient)
	cfg.MaxWatchersPerClient = cmp.Or(cfg.MaxWatchersPerClient, defaultMaxWatchersPerClient)
	return cfg
}

// connectionLimit is how many clients' connections there may be: as many as the settings
// say, and as there are files for. Each may need one more to a backend.
func connectionLimit(most int) (limit int, files uint64) {
	var open syscall.Rlimit
	// The Go runtime has raised the soft limit to the hard one.
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &open); err != nil || open.Cur > math.MaxInt32 {
		return most, open.Cur
	}
	return min(most, max((int(open.Cur)-otherFiles)/2, 1)), open.Cur
}

// Serve answers requests on listener until ctx ends. Then it lets load balancers know (see
// leave), stops accepting, ends streams, waits up to Config.DrainTimeout for the requests in
// flight and returns nil when all were answered. It closes listener in every case. It is
// called once.
func (p *Proxy) Serve(ctx context.Context, listener net.Listener) error {
	if _, files := connectionLimit(p.cfg.MaxConnections); p.limit < p.cfg.MaxConnections {
		p.logger.Info("fewer connections than KV_MAX_CONNECTIONS, for want of open files (ulimit -n)",
			"connections", p.limit, "KV_MAX_CONNECTIONS", p.cfg.MaxConnections, "files", files)
	}
	p.logger.Info("listening", "address", listener.Addr().String(), "version", telemetry.Version)
	return p.server.Serve(ctx, listener)
}

// patrol lets go of what is not needed any more.
func (p *Proxy) patrol(now time.Time) {
	p.clients.forget(now)
	for _, b := range p.backends.list {
		b.pool.Shrink(now)
	}
}

// EndStreams ends every stream, now and from now on.
func (p *Proxy) EndStreams() { p.server.EndStreams() }

// Close ends the probes and waits for them, and closes the idle connections to
// the backends. Requests in flight are not waited for; Serve does that.
func (p *Proxy) Close() {
	p.cancel()
	p.backends.close()
}

// Stats describe what a proxy does now and has done since New.
type Stats struct {
	// Backends in the order of Config.Backends.
	Backends []BackendStats
	// Clients is the number of their connections, Streams that of the streams that
	// are forwarded.
	Clients, Streams int
	// Retries counts the requests that were sent anew on another connection.
	Retries uint64
}

// BackendStats describe one backend.
type BackendStats struct {
	Address string // host:port
	Healthy bool
	h1.PoolStats
}

// Stats may be called at any time.
func (p *Proxy) Stats() Stats {
	stats := Stats{Clients: p.server.Connections(), Streams: p.clients.watching(), Retries: p.server.Retries()}
	for _, b := range p.backends.list {
		stats.Backends = append(stats.Backends, BackendStats{b.pool.Address, b.health.Load() == healthy, b.pool.Stats()})
	}
	return stats
}
