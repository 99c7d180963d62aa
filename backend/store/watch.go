package store

import (
	"container/list"
	"context"
	"slices"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// Now makes a watch begin with the next write.
const Now = -1

// A Watch is a feed of the writes to some keys: a cursor in the log or, further back, in the
// database. It is used by one goroutine.
type Watch struct {
	store  *Store
	keys   kv.Prefixes
	values bool
	gone   int64         // the feed was told that revisions up to it may be missing
	reset  bool          // the feed is still to be told of a restore since its position; see admit
	wake   chan struct{} // holds an element when there is something to read
	slow   func()        // see OnSlow

	// Under the lock of the log:
	open          bool           // it is counted
	opened        int64          // the revision of the store when it was opened
	subscriptions []subscription // none after it was cut off or closed
	position      int64          // everything up to it was delivered, or is of other keys; only the feed changes it
	unread        int64          // there may be something to read from it on; 0 when none is known
	live          bool           // it has been at the end of the log
	held          holding
	element       *list.Element // among the holders; nil when it has no delivery
	cut           bool          // it has held a delivery too long
	lost          bool          // the engine has lost what it may have delivered; told says that it knows
	told          bool
}

// A Delivery is the next part of a feed.
type Delivery struct {
	// Entries are writes in the order of their revisions. There may be none.
	Entries []*Event
	// Position is the revision to resume from after this delivery. It advances
	// without entries too, as other keys are written.
	Position int64
	// Compacted, when not 0, says before Entries that the history may lack writes up to
	// that revision which belong to this feed: retention has removed versions of its
	// keys, or a key was erased together with its name. What the history still has is
	// delivered all the same.
	Compacted int64
	// Reset, with Compacted, says that a backup was restored after the position from which
	// the feed resumed, or that the engine has lost commits: what the feed delivered before may
	// not have happened.
	Reset bool
}

// A WatchRequest says what a feed delivers.
type WatchRequest struct {
	// Keys are the keys whose writes are delivered. Each prefix costs as much as a watch of
	// its own.
	Keys kv.Prefixes
	// Since is the revision after which the feed begins, or Now.
	Since int64
	// Values says that the entries have their values.
	Values bool
}

// Watch returns a feed of writes. None is missed and none comes twice, and the writes of one
// transaction come in one delivery while they are in the log. A delivery may still have a value
// that is destroyed meanwhile. The caller must Close the feed.
//
// Errors: kv.ErrInvalidKey for a prefix, kv.ErrFutureRevision,
// kv.ErrTooManyWatchers, or kv.ErrUnavailable for a store that is closing.
func (s *Store) Watch(r WatchRequest) (*Watch, error) {
	for _, prefix := range r.Keys {
		if err := kv.CheckPrefix(prefix); err != nil {
			return nil, err
		}
	}
	if err := s.fresh(s.watchers.ctx); s.watchers.ctx.Err() != nil {
		return nil, errClosed
	} else if err != nil {
		return nil, err
	}
	w := &Watch{
		store: s, keys: r.Keys, values: r.Values, wake: make(chan struct{}, 1),
	}
	if err := s.watchers.admit(w, r.Since); err != nil {
		return nil, err
	}
	return w, nil
}

// EndWatches ends every feed, and those that are opened later: each delivers what it has and
// then returns kv.ErrWatchEnded. A feed never ends by itself, so a server that drains
// would wait for it in vain.
func (s *Store) EndWatches() { s.watchers.cancel() }

// Close ends the feed. Closing it again does nothing.
func (w *Watch) Close() { w.store.watchers.dismiss(w) }

// Position is the revision to resume from after the last delivery.
func (w *Watch) Position() int64 { return w.position }

// OnEnd arranges for f to be called, in its own goroutine, when EndWatches is called.
// stop undoes that.
func (w *Watch) OnEnd(f func()) (stop func() bool) {
	return context.AfterFunc(w.store.watchers.ctx, f)
}

// OnSlow arranges for f to be called when the feed has held a delivery for so long that its
// memory is needed: the next call of Next returns kv.ErrSlowWatcher, and a caller that is still
// busy with the delivery should drop it. OnSlow must be called before Next.
func (w *Watch) OnSlow(f func()) { w.slow = f }

// Next returns the next delivery. The one before must not be used any more. After idle without
// a write it returns a delivery without entries.
//
// Errors: kv.ErrSlowWatcher when the feed was not read in time, so that the log no longer
// has the next event (a new feed from Position misses nothing); kv.ErrWatchEnded;
// those of reading the history; the error of ctx.
func (w *Watch) Next(ctx context.Context, idle time.Duration) (Delivery, error) {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	expired := false
	var of *page
	for {
		if err := ctx.Err(); err != nil {
			return Delivery{}, err
		}
		ended := w.store.watchers.ctx.Err() != nil // read before the log, whose events are still delivered
		found, err := w.advance(ended)
		var d Delivery
		paged := 0
		switch {
		case err != nil:
			return Delivery{}, err
		case found.lost:
			return w.tellLoss(), nil
		case found.history:
			if d, of, err = w.history(ctx, found.last); err != nil {
				return Delivery{}, err
			}
			paged = len(d.Entries)
			if next, err := w.advance(ended); err == nil { // else the next call returns it
				w.deliver(&d, next.events)
			}
		default:
			of = nil
			w.deliver(&d, found.events)
		}
		if len(d.Entries) > 0 {
			w.store.watchers.hold(w, of, d.Entries[paged:])
		}
		if len(d.Entries) > 0 || d.Compacted > 0 || expired && found.idle {
			return d, nil
		}
		if !found.idle {
			select { // a long history without a match
			case <-timer.C:
				return d, nil
			default:
			}
			continue
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
		case <-w.store.watchers.ctx.Done():
		case <-timer.C:
			expired = true
		}
	}
}

// A step is what a feed finds after its position.
type step struct {
	events  []*Event // of the log, of any keys
	history bool     // the log does not go back so far: ask the database
	last    int64    // up to this revision
	idle    bool     // there is nothing up to the end of the log
	lost    bool     // what the feed has delivered may not have happened
}

// advance finds what is next and moves the position behind the events that it returns. When
// the feeds are ended it returns kv.ErrWatchEnded, unless the feed was at the end of the log
// and has something more, and so it does once the feed knows that the engine has lost commits.
func (w *Watch) advance(ended bool) (step, error) {
	l := w.store.log
	l.mu.Lock()
	defer l.mu.Unlock()
	found := step{}
	w.store.watchers.releaseLocked(w)
	switch {
	case w.cut:
		return found, kv.ErrSlowWatcher
	case w.told:
		return found, kv.ErrWatchEnded
	case w.lost:
		found.lost = true
		return found, nil
	}
	for _, s := range w.subscriptions {
		if s.group.marked && s.group.last > w.position {
			w.noteLocked(s.group.first)
		}
	}
	if ended && (!w.live || w.unread == 0) {
		return found, kv.ErrWatchEnded
	}
	if w.unread == 0 {
		found.idle = true
		w.position, w.live = l.head, true
		return found, nil
	}
	after := max(w.position, w.unread-1)
	switch {
	case after+1 >= l.first:
	case w.live:
		if w.subscriptions != nil {
			w.store.counters.cut.Add(1)
			w.store.watchers.unsubscribeLocked(w)
		}
		return found, kv.ErrSlowWatcher
	default:
		found.history, found.last, w.position = true, l.first-1, after
		return found, nil
	}
	found.events, w.position = l.readLocked(after)
	w.restLocked()
	return found, nil
}

// tellLoss returns the delivery that says that the engine has lost commits.
func (w *Watch) tellLoss() Delivery {
	l := w.store.log
	l.mu.Lock()
	defer l.mu.Unlock()
	w.told, w.position = true, w.store.restored.Load()
	return Delivery{Position: w.position, Compacted: w.position, Reset: true}
}

// noteLocked notes that an event of that revision is to be read, unless it was read.
func (w *Watch) noteLocked(revision int64) {
	revision = max(revision, w.position+1)
	if w.unread == 0 || revision < w.unread {
		w.unread = revision
	}
}

// restLocked notes what is left to read after the position.
func (w *Watch) restLocked() {
	if w.unread = 0; w.position < w.store.log.head {
		w.unread = w.position + 1
	}
}

// deliver adds the events of the feed's keys to a delivery. An empty delivery takes over the
// slice of events. An event that was erased together with the name of its key may be one of
// this feed. The end of such a key is delivered only to a feed that was open at that time: no
// other learns the name.
func (w *Watch) deliver(d *Delivery, events []*Event) {
	d.Position = w.position
	before := len(d.Entries)
	if before == 0 {
		d.Entries = events[:0]
		defer func() { clear(events[len(d.Entries):]) }() // lets go of the events of other keys
	}
	for _, e := range events {
		switch {
		case e.Key == "", e.Operation == kv.OpDestroy && e.Revision <= w.opened:
			if e.Revision > w.gone {
				w.gone, d.Compacted = e.Revision, e.Revision
			}
		case !w.keys.Has(e.Key):
		case w.values:
			d.Entries = append(d.Entries, e)
		default:
			d.Entries = append(d.Entries, e.withoutValue())
		}
	}
	w.store.counters.events.Add(uint64(len(d.Entries) - before))
}

// history delivers the next page of the database, up to revision last.
func (w *Watch) history(ctx context.Context, last int64) (Delivery, *page, error) {
	page, err := w.store.pages.get(ctx, database.EventsRequest{
		Keys: w.keys, After: w.position, Last: last, Known: w.gone, Values: w.values,
	})
	if err != nil {
		return Delivery{}, nil, err
	}
	d := Delivery{Entries: slices.Clip(page.events), Position: page.Through, Compacted: page.Gone, Reset: w.reset}
	if w.reset {
		d.Compacted = max(page.Gone, w.store.restored.Load())
	}
	w.gone, w.reset = max(w.gone, d.Compacted), false
	w.store.counters.events.Add(uint64(len(d.Entries)))
	l := w.store.log
	l.mu.Lock()
	defer l.mu.Unlock()
	w.position = page.Through
	w.restLocked()
	return d, page, nil
}
