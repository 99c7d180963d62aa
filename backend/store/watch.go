package store

import (
	"context"
	"sync"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// Now lets a watch begin with the next write.
const Now = -1

// nearHistory is how many revisions a watch may lack when it subscribes. It reads
// a longer history without a queue that fills up meanwhile.
const nearHistory = 4096

// A Watch is a feed of what is written to some keys. It is used by one goroutine.
type Watch struct {
	store    *Store
	keys     kv.Prefixes
	values   bool
	position int64 // all up to it was delivered
	history  int64 // up to it the database is asked
	joined   bool  // and behind it the queue has all
	told     int64 // up to it the feed was told that revisions may be missing
	reset    bool  // a restore came between since and the history of today; to be told

	// Under the hub's lock:
	open          bool           // and counted
	subscriptions []subscription // none when it has none
	fresh         []*kv.Entry

	wake  chan struct{} // has one when the queue has changed
	mu    sync.Mutex    // guards all below
	queue []*kv.Entry
	bytes int64
	slow  bool // the queue was too short, and is no more
}

// A Delivery is the next part of a feed.
type Delivery struct {
	// Entries are writes in the order of their revisions; there may be none.
	Entries []*kv.Entry
	// Position is the revision to resume from after this delivery. It advances
	// without entries too, as others write.
	Position int64
	// Compacted, when not 0, says in front of Entries that history may lack writes up to
	// that revision which this feed should have had: retention has removed versions of its
	// keys, or a key was erased together with its name. What history still has is
	// delivered all the same.
	Compacted int64
	// Reset, with Compacted, says that a backup was restored since the feed was followed
	// up to where it goes on: what was seen of it may not have happened.
	Reset bool
}

// A WatchRequest says what a feed has.
type WatchRequest struct {
	// Keys are those whose writes are delivered. Each prefix costs as much as a watch of
	// its own.
	Keys kv.Prefixes
	// Since is the revision behind which the feed begins, or Now.
	Since int64
	// Values: the entries have their values.
	Values bool
}

// Watch returns a feed of writes. None is missed and none comes twice, and those of one
// transaction that are not history yet come in one delivery. The caller must Close it.
//
// Errors: kv.ErrInvalidKey for a prefix, kv.ErrFutureRevision,
// kv.ErrTooManyWatchers, or kv.ErrUnavailable for a store that is closing.
func (s *Store) Watch(r WatchRequest) (*Watch, error) {
	for _, prefix := range r.Keys {
		if err := kv.CheckPrefix(prefix); err != nil {
			return nil, err
		}
	}
	if r.Since > s.hub.reached() {
		s.awaitPublished(kv.Entry{Revision: r.Since}) // a read may have seen it already
	}
	if current := s.hub.reached(); r.Since > current {
		return nil, kv.FutureRevision(r.Since, current)
	}
	w := &Watch{
		store: s, keys: r.Keys, values: r.Values, position: r.Since, wake: make(chan struct{}, 1),
		reset: 0 < r.Since && r.Since < s.hub.restored,
	}
	if err := s.hub.admit(w); err != nil {
		return nil, err
	}
	if r.Since == Now {
		w.history, w.joined = s.hub.subscribe(w), true
		w.position = w.history
	} else {
		w.approach()
	}
	return w, nil
}

// EndWatches ends every feed, now and from now on: each delivers what it has and
// then says kv.ErrWatchEnded. A feed never ends by itself, so a server that drains
// would wait for it in vain.
func (s *Store) EndWatches() { s.hub.end() }

// Close ends the feed. To close it again does nothing.
func (w *Watch) Close() { w.store.hub.dismiss(w) }

// Position is the revision to resume from after the last delivery.
func (w *Watch) Position() int64 { return w.position }

// OnEnd arranges for f to be called, in a goroutine of its own, when EndWatches is.
// The function that it returns undoes that.
func (w *Watch) OnEnd(f func()) (stop func() bool) { return context.AfterFunc(w.store.hub.ending, f) }

// Next returns the next delivery. It waits at most idle for one, and returns one
// without entries then.
//
// Errors: kv.ErrSlowWatcher when the feed was not read in time, and the rest of
// the queue is lost: a new one from Position misses nothing; kv.ErrWatchEnded;
// kv.ErrUnavailable or kv.ErrCorrupt when history cannot be read; that of ctx.
func (w *Watch) Next(ctx context.Context, idle time.Duration) (Delivery, error) {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for !w.joined || w.position < w.history {
		if w.store.hub.ending.Err() != nil {
			return Delivery{}, kv.ErrWatchEnded
		}
		if w.position >= w.history {
			w.approach()
			continue
		}
		delivery, err := w.read(ctx)
		if err != nil || len(delivery.Entries) > 0 || delivery.Compacted > 0 {
			return delivery, err
		}
		select { // nothing matches in a long history
		case <-timer.C:
			return delivery, nil
		default:
		}
	}
	return w.await(ctx, timer.C)
}

// approach sets how far history is read, and subscribes when that is near.
func (w *Watch) approach() {
	w.history = w.store.hub.reached()
	if w.history-w.position <= nearHistory {
		if hook := w.store.hooks.beforeSubscribe; hook != nil {
			hook()
		}
		w.history, w.joined = w.store.hub.subscribe(w), true
	}
}

// read delivers the next page of history.
func (w *Watch) read(ctx context.Context) (Delivery, error) {
	page, err := w.store.db.Events(ctx, database.EventsRequest{
		Keys: w.keys, After: w.position, Last: w.history, Known: w.told, Values: w.values,
	})
	if err != nil {
		return Delivery{}, err
	}
	delivery := Delivery{Position: page.Through, Compacted: page.Gone, Reset: w.reset}
	if w.reset {
		delivery.Compacted = max(page.Gone, w.store.hub.restored)
	}
	w.position, w.told, w.reset = page.Through, max(w.told, delivery.Compacted), false
	for i := range page.Entries {
		delivery.Entries = append(delivery.Entries, &page.Entries[i])
	}
	w.store.counters.events.Add(uint64(len(delivery.Entries)))
	return delivery, nil
}

// await delivers what is in the queue, once there is something.
func (w *Watch) await(ctx context.Context, idle <-chan time.Time) (Delivery, error) {
	ending := w.store.hub.ending
	for {
		if err := ctx.Err(); err != nil {
			return Delivery{}, err
		}
		ended := ending.Err() != nil // before the look into the queue: what is in it goes out still
		delivery, err := w.pop()
		switch {
		case err != nil || len(delivery.Entries) > 0:
			return delivery, err
		case ended:
			return Delivery{}, kv.ErrWatchEnded
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
		case <-ending.Done():
		case <-idle:
			return w.advance()
		}
	}
}

// pop takes the whole queue.
func (w *Watch) pop() (Delivery, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.slow {
		return Delivery{}, kv.ErrSlowWatcher
	}
	entries := w.queue
	w.queue, w.bytes = nil, 0
	if len(entries) > 0 {
		w.position = entries[len(entries)-1].Revision
		w.store.counters.events.Add(uint64(len(entries)))
	}
	return Delivery{Entries: entries, Position: w.position}, nil
}

// advance delivers the queue; when it is empty, all that others wrote is behind this
// watch.
func (w *Watch) advance() (Delivery, error) {
	w.store.hub.mu.RLock() // so that nothing is handed on in between
	defer w.store.hub.mu.RUnlock()
	delivery, err := w.pop()
	if err == nil && len(delivery.Entries) == 0 {
		w.position = w.store.hub.revision
		delivery.Position = w.position
	}
	return delivery, err
}

// take puts fresh into the queue and reports whether there was room. The hub calls
// it, with its lock. An empty queue has room for any one transaction.
func (w *Watch) take() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	bytes := w.bytes
	for _, entry := range w.fresh {
		bytes += entry.Size()
	}
	full := len(w.queue)+len(w.fresh) > maxQueueEvents || bytes > maxQueueBytes
	switch {
	case len(w.queue) > 0 && full:
		w.slow, w.queue, w.fresh = true, nil, nil
	case len(w.queue) == 0:
		w.queue, w.bytes, w.fresh = w.fresh, bytes, nil
	default:
		w.queue, w.bytes = append(w.queue, w.fresh...), bytes
		clear(w.fresh)
		w.fresh = w.fresh[:0]
	}
	select {
	case w.wake <- struct{}{}:
	default: // it knows already
	}
	return !w.slow
}
