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

// What is known of a backend's health.
const (
	unknown int32 = iota
	healthy
	unhealthy
)

// A backend is one member of the pool.
type backend struct {
	url     *url.URL // http://host:port
	health  atomic.Int32
	reserve reserve // the connections to it
	dials
	// probing is held by who probes the backend, so that probes do not overtake
	// each other.
	probing chan struct{}
	// store is the id that the backend told last, "" before the first time. It
	// is guarded by pool.mu.
	store string
}

// A pool knows the backends, which of them are healthy, and whether they belong
// together.
type pool struct {
	backends []*backend
	logger   *slog.Logger
	client   *http.Client // asks the backends about themselves
	turn     atomic.Uint64

	cancel context.CancelFunc
	probes sync.WaitGroup

	// difference is set while two backends are known to serve different stores.
	difference atomic.Pointer[differError]

	mu sync.Mutex // guards every backend's store, and the order of what is logged
}

func newPool(urls []*url.URL, logger *slog.Logger) *pool {
	p := &pool{logger: logger, client: newProbeClient()}
	for _, u := range urls {
		p.backends = append(p.backends, &backend{url: u, probing: make(chan struct{}, 1)})
	}
	return p
}

// start probes every backend once and then each on its own at every interval
// until ctx ends or close is called.
func (p *pool) start(ctx context.Context, interval time.Duration) {
	ctx, p.cancel = context.WithCancel(ctx)
	var first sync.WaitGroup
	for _, b := range p.backends {
		first.Go(func() { p.probe(ctx, b) })
	}
	first.Wait()
	for _, b := range p.backends {
		p.probes.Go(func() { p.keepProbing(ctx, b, interval) })
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
			p.probe(ctx, b)
		}
	}
}

// close ends the probes and waits for them.
func (p *pool) close() {
	p.cancel()
	p.probes.Wait()
	p.client.CloseIdleConnections()
}

// differ returns an error that wraps ErrBackendsDiffer while two backends are
// known to serve different stores, else nil.
func (p *pool) differ() error {
	if difference := p.difference.Load(); difference != nil {
		return difference
	}
	return nil
}

// candidates yields the backends to try for one request, in turn: the healthy
// ones, and then the others, since they may have recovered since the last probe.
// A single backend is always tried. Of several, one that is not healthy is asked
// first which store it serves, so that a stranger is never used.
func (p *pool) candidates(ctx context.Context) iter.Seq[*backend] {
	return func(yield func(*backend) bool) {
		if len(p.backends) == 1 {
			yield(p.backends[0])
			return
		}
		well, rest := p.inTurn()
		for _, b := range well {
			if !yield(b) {
				return
			}
		}
		for _, b := range rest {
			if p.verify(ctx, b) && !yield(b) {
				return
			}
		}
	}
}

// inTurn returns the healthy backends and the others. Each list begins one
// further at every call, so that each member is first equally often.
func (p *pool) inTurn() (well, rest []*backend) {
	for _, b := range p.backends {
		if b.health.Load() == healthy {
			well = append(well, b)
		} else {
			rest = append(rest, b)
		}
	}
	turn := p.turn.Add(1)
	return rotate(well, turn), rotate(rest, turn)
}

func rotate(list []*backend, turn uint64) []*backend {
	if len(list) < 2 {
		return list
	}
	first := int(turn % uint64(len(list)))
	return append(list[first:len(list):len(list)], list[:first]...)
}

// verify probes b and reports whether its store is known and nobody's differs.
func (p *pool) verify(ctx context.Context, b *backend) bool {
	p.probe(ctx, b)
	p.mu.Lock()
	defer p.mu.Unlock()
	return b.store != "" && p.difference.Load() == nil
}

// unreachable notes that no connection to b could be made.
func (p *pool) unreachable(b *backend, cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setHealthLocked(b, cause)
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
	p.setHealthLocked(b, err)
}

// setHealthLocked logs changes only. A nil cause means healthy.
func (p *pool) setHealthLocked(b *backend, cause error) {
	if cause == nil {
		if b.health.Swap(healthy) != healthy {
			p.logger.Info("backend is healthy", "backend", b.url.String(), "store", b.store)
		}
		return
	}
	if b.health.Swap(unhealthy) != unhealthy {
		p.logger.Warn("backend is unhealthy", "backend", b.url.String(), "cause", cause.Error())
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
