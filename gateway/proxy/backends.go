package proxy

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"kvstore/gateway/h1"
)

// ErrBackendsDiffer means that two backends serve different stores. A key would be in one and not
// in the other, so nothing can be answered.
var ErrBackendsDiffer = errors.New("KV_BACKENDS names backends of different stores")

// differError is ErrBackendsDiffer with what each backend serves.
type differError struct{ serves string }

func (e *differError) Error() string { return ErrBackendsDiffer.Error() + ": " + e.serves }
func (e *differError) Unwrap() error { return ErrBackendsDiffer }

// errLoop means that the only backend is this gateway itself.
var errLoop = errors.New("KV_BACKENDS names this gateway itself, or another that leads back to it")

// The states of a backend.
const (
	unknown int32 = iota
	healthy
	ill    // it answers but is not ready; its store is known
	gone   // it does not answer, or does not tell its store
	itself // it is this gateway
)

type backend struct {
	url    *url.URL // http://host:port
	health atomic.Int32
	pool   h1.Pool
	store  string // the id that it told last, or ""; guarded by backends.mu
}

// backends are all backends. They know which ones are healthy, and whether all serve one store.
type backends struct {
	list    []*backend
	single  h1.Order // if there is only one
	logger  *slog.Logger
	client  *http.Client  // for questions
	timeout time.Duration // of a question
	via     string        // the gateway's name in Via
	turn    atomic.Uint64

	ctx     context.Context    //nolint:containedctx // of questions that requests wait for
	flights singleflight.Group // questions: reports by healthFlight, probes by address
	probing sync.WaitGroup

	// reports are those of the time reported. They belong to the flight of reports.
	reports  []report
	reported time.Time

	// difference is set while two backends are known to serve different stores.
	difference atomic.Pointer[differError]

	mu sync.Mutex // guards the stores, and the order of log messages
}

func newBackends(ctx context.Context, cfg Config, via string) *backends {
	all := &backends{ctx: ctx, logger: cfg.Logger, client: newProbeClient(), timeout: cfg.ProbeTimeout, via: via}
	for _, u := range cfg.Backends {
		b := &backend{url: u}
		b.pool.Address = u.Host
		b.pool.Unreachable = func(cause error) { all.unreachable(b, cause) }
		all.list = append(all.list, b)
	}
	all.single = all.order(all.list, nil)
	return all
}

// start probes all backends once, and then each at every interval until ctx or all.ctx ends.
func (all *backends) start(ctx context.Context, interval time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(all.ctx, cancel)
	var first sync.WaitGroup
	for _, b := range all.list {
		first.Go(func() { all.probe(ctx, ctx, b) })
	}
	first.Wait()
	for _, b := range all.list {
		all.probing.Go(func() { all.keepProbing(ctx, b, interval) })
	}
}

func (all *backends) keepProbing(ctx context.Context, b *backend, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			all.probe(ctx, ctx, b)
		}
	}
}

// close waits for all questions and closes the idle connections. all.ctx must have ended.
func (all *backends) close() {
	all.probing.Wait()
	wait := func(flight string) { _, _, _ = all.flights.Do(flight, func() (any, error) { return nil, nil }) }
	wait(healthFlight)
	for _, b := range all.list {
		wait(b.url.Host)
		b.pool.Close()
	}
	all.client.CloseIdleConnections()
}

// differ returns an error that wraps ErrBackendsDiffer while two backends are known to serve
// different stores, and nil otherwise.
func (all *backends) differ() error {
	if difference := all.difference.Load(); difference != nil {
		return difference
	}
	return nil
}

// next returns the order of backends for a request: the healthy ones, those that are ill, and then
// those that are gone, if they recover. Each request begins with another backend. A single backend
// is always tried, unless it is this gateway.
func (all *backends) next() h1.Order {
	if len(all.list) == 1 && all.list[0].health.Load() != itself {
		return all.single
	}
	var live, unready, absent []*backend
	for _, b := range all.list {
		switch b.health.Load() {
		case healthy:
			live = append(live, b)
		case ill:
			unready = append(unready, b)
		case itself:
		default:
			absent = append(absent, b)
		}
	}
	turn := all.turn.Add(1)
	return all.order(append(rotate(live, turn), rotate(unready, turn)...), rotate(absent, turn))
}

func rotate(list []*backend, turn uint64) []*backend {
	if len(list) < 2 {
		return list
	}
	first := int(turn % uint64(len(list)))
	return append(list[first:len(list):len(list)], list[:first]...)
}

// order yields the live backends at once, and each of the others when a probe finds that it has
// recovered.
func (all *backends) order(live, absent []*backend) (o h1.Order) {
	if len(live) > 0 {
		o.First = &live[0].pool
	}
	o.All = func(ctx context.Context) iter.Seq[*h1.Pool] {
		return func(yield func(*h1.Pool) bool) {
			for _, b := range live {
				if !yield(&b.pool) {
					return
				}
			}
			for b := range all.recovered(ctx, absent) {
				if !yield(&b.pool) {
					return
				}
			}
		}
	}
	return o
}

// recovered probes the backends at the same time and sends those that have recovered. A probe also
// asks for the store, so that no stranger is used. The channel is closed when all have answered or
// ctx ends.
func (all *backends) recovered(ctx context.Context, absent []*backend) <-chan *backend {
	back := make(chan *backend, len(absent))
	var asking sync.WaitGroup
	for _, b := range absent {
		asking.Go(func() {
			if all.probe(ctx, all.ctx, b); b.isLive() && all.differ() == nil {
				back <- b
			}
		})
	}
	go func() {
		asking.Wait()
		close(back)
	}()
	return back
}

// explain returns why no backend accepted a connection, if the last attempt failed with err.
func (all *backends) explain(err error) error {
	if differ := all.differ(); differ != nil {
		return differ
	}
	reachable := func(b *backend) bool { return b.health.Load() != itself }
	if errors.Is(err, h1.ErrNoBackend) && !slices.ContainsFunc(all.list, reachable) {
		return errLoop
	}
	return err
}

func (b *backend) isLive() bool {
	health := b.health.Load()
	return health == healthy || health == ill
}

// unreachable notes that b accepts no connection.
func (all *backends) unreachable(b *backend, cause error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.setHealthLocked(b, gone, cause)
}

// note notes the result of a probe. It compares the stores before the backend counts as healthy,
// so that no request goes to a backend of another store.
func (all *backends) note(b *backend, store string, err error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if err == nil && b.store != store {
		if b.store != "" {
			all.logger.Warn("backend serves another store than before", "backend", b.url.String(), "store", store, "before", b.store)
		}
		b.store = store
		all.compareLocked()
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
	all.setHealthLocked(b, health, err)
}

// setHealthLocked sets the state of b, and logs when it becomes healthy or unhealthy.
func (all *backends) setHealthLocked(b *backend, health int32, cause error) {
	switch before := b.health.Swap(health); {
	case health == healthy && before != healthy:
		all.logger.Info("backend is healthy", "backend", b.url.String(), "store", b.store)
	case health != healthy && (before == healthy || before == unknown), health == itself && before != itself:
		all.logger.Warn("backend is unhealthy", "backend", b.url.String(), "cause", cause.Error())
	}
	if health == gone {
		b.pool.Clear()
	}
}

// compareLocked sets difference after a store has changed.
func (all *backends) compareLocked() {
	var serves []string
	stores := map[string]bool{}
	for _, b := range all.list {
		if b.store != "" {
			stores[b.store] = true
			serves = append(serves, fmt.Sprintf("%s serves store %s", b.url, b.store))
		}
	}
	if len(stores) < 2 {
		if all.difference.Swap(nil) != nil {
			all.logger.Info("all backends serve the same store again")
		}
		return
	}
	now := &differError{serves: strings.Join(serves, ", ")}
	all.difference.Store(now)
	all.logger.Error("requests are refused", "cause", now.Error())
}
