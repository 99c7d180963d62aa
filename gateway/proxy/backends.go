package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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

// The states of a backend, the best one first.
const (
	unknown int32 = iota
	healthy
	lagging // it is ready, but lags more than Config.MaxLag
	ill     // it answers but is not ready; its store is known
	gone    // it does not answer, or does not tell its store
	itself  // it is this gateway
)

type backend struct {
	url   *url.URL // http://host:port
	state atomic.Int32
	pool  h1.Pool

	reads, writes atomic.Uint64 // requests that were sent to it

	said readiness // at the last probe; its store stays known. Guarded by backends.mu
}

// backends are all backends. They know which ones are healthy, and whether all serve one store.
type backends struct {
	list    []*backend
	logger  *slog.Logger
	client  *http.Client  // for questions
	timeout time.Duration // of a question
	maxLag  time.Duration // Config.MaxLag
	via     string        // the gateway's name in Via

	orders atomic.Pointer[[]h1.Order] // see arrangeLocked
	turn   atomic.Uint64              // of reads

	ctx     context.Context    //nolint:containedctx // of questions that requests wait for
	flights singleflight.Group // questions: reports by healthFlight, probes by address
	probing sync.WaitGroup

	// reports are those of the time reported. They belong to the flight of reports.
	reports  []report
	reported time.Time

	// difference is set while two backends are known to serve different stores.
	difference atomic.Pointer[differError]

	mu sync.Mutex // guards what backends said, the order of log messages, and changes of states and orders
}

func newBackends(ctx context.Context, cfg Config, via string) *backends {
	all := &backends{
		ctx: ctx, logger: cfg.Logger, client: newProbeClient(), timeout: cfg.ProbeTimeout, maxLag: cfg.MaxLag, via: via,
	}
	for _, u := range cfg.Backends {
		b := &backend{url: u}
		b.pool.Address = u.Host
		b.pool.Unreachable = func(cause error) { all.unreachable(b, cause) }
		all.list = append(all.list, b)
	}
	all.arrangeLocked()
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

// explain returns why no backend accepted a connection, if the last attempt failed with err.
func (all *backends) explain(err error) error {
	if differ := all.differ(); differ != nil {
		return differ
	}
	reachable := func(b *backend) bool { return b.state.Load() != itself }
	if errors.Is(err, h1.ErrNoBackend) && !slices.ContainsFunc(all.list, reachable) {
		return errLoop
	}
	return err
}

// unreachable notes that b accepts no connection.
func (all *backends) unreachable(b *backend, cause error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.setStateLocked(b, gone, cause)
}

// note notes the result of a probe. It compares the stores before the backend counts as healthy,
// so that no request goes to a backend of another store.
func (all *backends) note(b *backend, said readiness, err error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	before := b.said.Store
	said.Store = cmp.Or(said.Store, before)
	b.said = said
	if said.Store != before {
		if before != "" {
			all.logger.Warn("backend serves another store than before",
				"backend", b.url.String(), "store", said.Store, "before", before)
		}
		all.compareLocked()
	}
	state := gone
	switch {
	case err == nil:
		state = healthy
		if err = all.overdue(said.lag()); err != nil {
			state = lagging
		}
	case errors.Is(err, errLoop):
		state = itself
	case errors.Is(err, errNotReady) && said.Store != "":
		state = ill
	}
	all.setStateLocked(b, state, err)
}

// overdue returns an error that says so if a lag is over Config.MaxLag, and nil otherwise.
func (all *backends) overdue(lag time.Duration) error {
	if lag > all.maxLag {
		return fmt.Errorf(
			"it has not confirmed for %s that it has the store's last commit (KV_MAX_LAG is %s)", lag, all.maxLag)
	}
	return nil
}

// setStateLocked sets the state of b, and logs when it becomes healthy or unhealthy.
func (all *backends) setStateLocked(b *backend, state int32, cause error) {
	before := b.state.Swap(state)
	switch {
	case state == before:
	case state == healthy:
		all.logger.Info("backend is healthy", "backend", b.url.String(), "store", b.said.Store)
	case before < ill, state == lagging, state == itself:
		all.logger.Warn("backend is unhealthy", "backend", b.url.String(), "cause", cause.Error())
	}
	if state != before {
		all.arrangeLocked()
	}
	if state == gone {
		b.pool.Clear()
	}
}

// compareLocked sets difference after a store has changed.
func (all *backends) compareLocked() {
	var serves []string
	stores := map[string]bool{}
	for _, b := range all.list {
		if store := b.said.Store; store != "" {
			stores[store] = true
			serves = append(serves, fmt.Sprintf("%s serves store %s", b.url, store))
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
