package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"kvstore/internal/problem"
	"kvstore/internal/settings"
)

const (
	defaultProbeInterval = time.Second
	// A client has this long for its body, and a second more for every
	// slowestBody bytes that a body may have.
	leastBodyTimeout = time.Minute
	slowestBody      = 64 << 10
)

// Config is what New needs.
type Config struct {
	// Backends are the base URLs of the backends, http://host:port each. At least
	// one; several must serve one and the same store.
	Backends []*url.URL
	// BackendTimeout bounds the wait for a backend's answer to begin, counted from
	// the moment when the request was sent whole, and the wait for a backend to
	// take the next part of a body. Streams (/watch) may begin as late as they like.
	BackendTimeout time.Duration
	// MaxValueBytes bounds a request body, together with settings.EnvelopeBytes.
	MaxValueBytes int64
	// BodyTimeout bounds how long a client may take to send its body. 0 means a
	// minute, and more where MaxValueBytes allows bodies over a mebibyte.
	BodyTimeout time.Duration
	// ProbeInterval is the time between two probes of a backend. 0 means a second.
	ProbeInterval time.Duration
	// Logger takes what operators must know.
	Logger *slog.Logger
}

// A Proxy is the gateway's handler. It is made by New and ended by Close.
type Proxy struct {
	pool        *pool
	logger      *slog.Logger
	reverse     *httputil.ReverseProxy
	transport   *transport
	maxBody     int64
	bodyTimeout time.Duration
	// streaming ends when EndStreams is called.
	streaming  context.Context //nolint:containedctx // it is no request's
	endStreams context.CancelFunc
}

// New returns a proxy whose backends have been probed once, which takes two
// seconds at most, and are probed until ctx ends or Close is called. The error
// wraps ErrBackendsDiffer when the backends that answered serve different stores.
// A backend that does not answer is no error.
func New(ctx context.Context, cfg Config) (*Proxy, error) {
	if len(cfg.Backends) == 0 {
		return nil, errors.New("proxy: no backends")
	}
	if cfg.ProbeInterval == 0 {
		cfg.ProbeInterval = defaultProbeInterval
	}
	p := &Proxy{
		pool:        newPool(cfg.Backends, cfg.Logger),
		logger:      cfg.Logger,
		maxBody:     cfg.MaxValueBytes + settings.EnvelopeBytes,
		bodyTimeout: cfg.BodyTimeout,
	}
	if p.bodyTimeout == 0 {
		p.bodyTimeout = leastBodyTimeout + time.Duration(cfg.MaxValueBytes/slowestBody)*time.Second
	}
	p.streaming, p.endStreams = context.WithCancel(context.WithoutCancel(ctx))
	p.transport = newTransport(p.pool, cfg.BackendTimeout)
	p.reverse = p.newReverseProxy()
	p.pool.start(ctx, cfg.ProbeInterval)
	if err := p.pool.differ(); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// EndStreams cuts every stream, now and from now on. A stream never ends by
// itself, so a server that drains would wait for it in vain.
func (p *Proxy) EndStreams() { p.endStreams() }

// Close ends the probes and waits for them, and closes the idle connections to
// the backends. Requests in flight are not waited for.
func (p *Proxy) Close() {
	p.endStreams()
	p.pool.close()
	p.transport.close()
}

// ServeHTTP answers the gateway's own routes and forwards everything else. The
// comparison is with the decoded path, as it is in the backend: /%72eadyz must
// not reach what /readyz must not.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/healthz":
		readOnly(w, r, p.serveAlive)
	case "/health":
		readOnly(w, r, p.serveHealth)
	case "/readyz", "/metrics": // of the backend, and not for the outside
		problem.New(http.StatusNotFound, "not_found", "There is no such endpoint; /docs lists them").Write(w)
	default:
		p.forward(w, r)
	}
}

// readOnly lets GET and HEAD through to serve.
func readOnly(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		problem.New(http.StatusMethodNotAllowed, "method_not_allowed", r.Method+" is not allowed here; allowed: GET, HEAD").Write(w)
		return
	}
	serve(w, r)
}
