package proxy

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ErrBackendsDiffer says that two backends serve different stores: a key would be
// in one and not in the other, so nothing can be answered.
var ErrBackendsDiffer = errors.New("KV_BACKENDS names backends of different stores")

// differError is ErrBackendsDiffer with what each backend serves.
type differError struct{ serves string }

func (e *differError) Error() string { return ErrBackendsDiffer.Error() + ": " + e.serves }
func (e *differError) Unwrap() error { return ErrBackendsDiffer }

// errLoop says that the only backend is this gateway itself.
var errLoop = errors.New("KV_BACKENDS names this gateway itself, or another that leads back to it")

// What is known of a backend.
const (
	unknown int32 = iota
	healthy
	ill    // it answers, but is not ready; which store it serves is known
	gone   // it does not answer, or tells no store
	itself // it is this gateway
)

// A backend is one member of the pool.
type backend struct {
	url     *url.URL // http://host:port
	health  atomic.Int32
	probing shared[struct{}] // its end is known by health
	reserve reserve          // the connections to it
	dials
	// store is the id that the backend told last, "" before the first time. It
	// is guarded by pool.mu.
	store string
}

// A pool knows the backends, which of them are healthy, and whether they belong
// together.
type pool struct {
	backends  []*backend
	logger    *slog.Logger
	client    *http.Client  // asks the backends about themselves
	timeout   time.Duration // of each question
	via       string        // the gateway's name in Via
	turn      atomic.Uint64
	reporting shared[[]report] // what the backends say of their health

	// ctx is for questions that requests wait for. All questions and the periodic probes are
	// tasks of asking.
	ctx    context.Context //nolint:containedctx // it is no request's
	asking tasks

	// difference is set while two backends are known to serve different stores.
	difference atomic.Pointer[differError]

	mu sync.Mutex // guards every backend's store, and the order of what is logged
}

func newPool(ctx context.Context, cfg Config, via string) *pool {
	p := &pool{ctx: ctx, logger: cfg.Logger, client: newProbeClient(), timeout: cfg.ProbeTimeout, via: via}
	for _, u := range cfg.Backends {
		p.backends = append(p.backends, &backend{url: u})
	}
	return p
}

// start probes every backend once and then each on its own at every interval
// until ctx or that of the pool ends.
func (p *pool) start(ctx context.Context, interval time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(p.ctx, cancel)
	var first sync.WaitGroup
	for _, b := range p.backends {
		first.Go(func() { p.probe(ctx, ctx, b) })
	}
	first.Wait()
	for _, b := range p.backends {
		p.asking.start(func() { p.keepProbing(ctx, b, interval) })
	}
}

func (p *pool) keepProbing(ctx context.Context, b *backend, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			p.probe(ctx, ctx, b)
		}
	}
}

// close waits for all questions and probes, and closes the idle connections. The context of the
// pool must have ended.
func (p *pool) close() {
	p.asking.wait()
	p.client.CloseIdleConnections()
	for _, b := range p.backends {
		b.reserve.clear(true)
	}
}

// differ returns an error that wraps ErrBackendsDiffer while two backends are
// known to serve different stores, else nil.
func (p *pool) differ() error {
	if difference := p.difference.Load(); difference != nil {
		return difference
	}
	return nil
}

// An order is that in which one request tries the backends. Each request begins one
// further than the one before, so that every backend is first equally often.
type order struct {
	live []*backend // the healthy ones, then those that are ill
	gone []*backend // to be probed before they are used
}

// order returns that of the next request. A single backend is always tried, unless it
// is the gateway itself.
func (p *pool) order() (o order) {
	if len(p.backends) == 1 {
		if p.backends[0].health.Load() != itself {
			o.live = p.backends
		}
		return o
	}
	var ills []*backend
	for _, b := range p.backends {
		switch b.health.Load() {
		case healthy:
			o.live = append(o.live, b)
		case ill:
			ills = append(ills, b)
		case itself:
		default:
			o.gone = append(o.gone, b)
		}
	}
	turn := p.turn.Add(1)
	o.live = append(rotate(o.live, turn), rotate(ills, turn)...)
	o.gone = rotate(o.gone, turn)
	return o
}

func rotate(list []*backend, turn uint64) []*backend {
	if len(list) < 2 {
		return list
	}
	first := int(turn % uint64(len(list)))
	return append(list[first:len(list):len(list)], list[:first]...)
}

// candidates yields the backends of o: the live ones at once, each other one when a probe finds
// that it has recovered. The probes run at the same time. They also ask for the store, so that
// a stranger is never used. The wait ends with ctx.
func (p *pool) candidates(ctx context.Context, o order) iter.Seq[*backend] {
	return func(yield func(*backend) bool) {
		for _, b := range o.live {
			if !yield(b) {
				return
			}
		}
		back := make(chan *backend, len(o.gone))
		var asking sync.WaitGroup // each ends with ctx
		for _, b := range o.gone {
			asking.Go(func() {
				if p.probe(ctx, p.ctx, b); b.isLive() && p.differ() == nil {
					back <- b
				}
			})
		}
		go func() {
			asking.Wait()
			close(back)
		}()
		for b := range back {
			if !yield(b) {
				return
			}
		}
	}
}

func (b *backend) isLive() bool {
	health := b.health.Load()
	return health == healthy || health == ill
}

// unreachable notes that no connection to b could be made.
func (p *pool) unreachable(b *backend, cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setHealthLocked(b, gone, cause)
}

// note takes the result of a probe. The stores are compared before the backend
// counts as healthy, so that no request goes to one that does not belong.
func (p *pool) note(b *backend, store string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil && b.store != store {
		if b.store != "" {
			p.logger.Warn("backend serves another store than before", "backend", b.url.String(), "store", store, "before", b.store)
		}
		b.store = store
		p.compareLocked()
	}
	health := gone
	switch {
	case err == nil:
		health = healthy
	case errors.Is(err, errLoop):
		health = itself
	case errors.Is(err, errNotReady) && b.store != "":
		health = ill
	}
	p.setHealthLocked(b, health, err)
}

// setHealthLocked logs when a backend becomes healthy, and when it is not any more.
func (p *pool) setHealthLocked(b *backend, health int32, cause error) {
	switch before := b.health.Swap(health); {
	case health == healthy && before != healthy:
		p.logger.Info("backend is healthy", "backend", b.url.String(), "store", b.store)
	case health != healthy && (before == healthy || before == unknown), health == itself && before != itself:
		p.logger.Warn("backend is unhealthy", "backend", b.url.String(), "cause", cause.Error())
	}
	if health == gone {
		b.reserve.clear(false)
	}
}

// compareLocked sets difference from the known stores, of which one has changed.
func (p *pool) compareLocked() {
	var serves []string
	stores := map[string]bool{}
	for _, b := range p.backends {
		if b.store != "" {
			stores[b.store] = true
			serves = append(serves, fmt.Sprintf("%s serves store %s", b.url, b.store))
		}
	}
	if len(stores) < 2 {
		if p.difference.Swap(nil) != nil {
			p.logger.Info("all backends serve the same store again")
		}
		return
	}
	now := &differError{serves: strings.Join(serves, ", ")}
	p.difference.Store(now)
	p.logger.Error("requests are refused", "cause", now.Error())
}
