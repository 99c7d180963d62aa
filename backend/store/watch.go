package store

import (
	"container/list"
	"context"
	"slices"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// Now lets a watch begin with the next write.
const Now = -1

// A Watch is a feed of what is written to some keys: a cursor in the log or, further back,
// in the database. It is used by one goroutine.
type Watch struct {
	store  *Store
	keys   kv.Prefixes
	values bool
	told   int64         // up to it the feed was told that revisions may be missing
	reset  bool          // a restore came between since and the history of today; to be told
	wake   chan struct{} // has one when there is something to read
	slow   func()        // see OnSlow

	// Under the lock of the log:
	open          bool           // and counted
	born          int64          // the revision of the store when it was opened
	subscriptions []subscription // none when it has none
	position      int64          // all up to it was delivered, or is of other keys; the feed alone changes it
	unread        int64          // from it on there may be something to read; 0 when that is not known
	live          bool           // it was at the end of the log
	held          holding
	place         *list.Element // among the holders; nil when it has no delivery
	shed          bool          // it has had a delivery too long
}

// A Delivery is the next part of a feed.
type Delivery struct {
	// Entries are writes in the order of their revisions; there may be none.
	Entries []*Event
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
	w := &Watch{store: s, keys: r.Keys, values: r.Values, wake: make(chan struct{}, 1), reset: 0 < r.Since && r.Since < s.restored}
	if err := s.watchers.admit(w, r.Since); err != nil {
		return nil, err
	}
	return w, nil
}

// EndWatches ends every feed, now and from now on: each delivers what it has and
// then says kv.ErrWatchEnded. A feed never ends by itself, so a server that drains
// would wait for it in vain.
func (s *Store) EndWatches() { s.watchers.end() }

// Close ends the feed. To close it again does nothing.
func (w *Watch) Close() { w.store.watchers.dismiss(w) }

// Position is the revision to resume from after the last delivery.
func (w *Watch) Position() int64 { return w.position }

// OnEnd arranges for f to be called, in a goroutine of its own, when EndWatches is.
// The function that it returns undoes that.
func (w *Watch) OnEnd(f func()) (stop func() bool) {
	return context.AfterFunc(w.store.watchers.ending, f)
}

// OnSlow arranges for f to be called when the feed has had a delivery for so long that its
// memory is needed: the next call of Next would be kv.ErrSlowWatcher, and whoever is still
// busy with the delivery should give it up. It must be called before Next.
func (w *Watch) OnSlow(f func()) { w.slow = f }

// Next returns the next delivery, and takes back the one before. It waits at most idle for one, and returns one
// without entries then.
//
// Errors: kv.ErrSlowWatcher when the feed was not read in time, so that the log has no
// more what comes next: a new one from Position misses nothing; kv.ErrWatchEnded;
// kv.ErrUnavailable or kv.ErrCorrupt when history cannot be read; that of ctx.
func (w *Watch) Next(ctx context.Context, idle time.Duration) (Delivery, error) {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	expired := false
	var of *page
	for {
		if err := ctx.Err(); err != nil {
			return Delivery{}, err
		}
		ended := w.store.watchers.ending.Err() != nil // before the look into the log: what is in it goes out still
		found, err := w.look(ended)
		var d Delivery
		paged := 0
		switch {
		case err != nil:
			return Delivery{}, err
		case found.history:
			if d, of, err = w.history(ctx, found.last); err != nil {
				return Delivery{}, err
			}
			paged = len(d.Entries)
			if next, err := w.look(ended); err == nil { // else the next call tells
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
			select { // nothing matches in a long history
			case <-timer.C:
				return d, nil
			default:
			}
			continue
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
		case <-w.store.watchers.ending.Done():
		case <-timer.C:
			expired = true
		}
	}
}

// A sight is what a feed finds behind its position.
type sight struct {
	events  []*Event // of the log, of whatever keys
	history bool     // the log does not go back so far; the database is to be asked
	last    int64    // up to there
	idle    bool     // there is nothing up to the end of the log
}

// look finds what is next, and moves the position behind what it returns. When the feeds
// are ended it is kv.ErrWatchEnded, but for a feed that was at the end of the log and has
// something more.
func (w *Watch) look(ended bool) (sight, error) {
	l := w.store.log
	l.mu.Lock()
	defer l.mu.Unlock()
	found := sight{}
	w.store.watchers.releaseLocked(w)
	if w.shed {
		return found, kv.ErrSlowWatcher
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

// noteLocked notes that there is an event of that revision to read, unless it was read.
func (w *Watch) noteLocked(revision int64) {
	revision = max(revision, w.position+1)
	if w.unread == 0 || revision < w.unread {
		w.unread = revision
	}
}

// restLocked notes what is left to read behind the position.
func (w *Watch) restLocked() {
	if w.unread = 0; w.position < w.store.log.head {
		w.unread = w.position + 1
	}
}

// deliver adds to a delivery those events that are of the feed's keys, in whose memory they
// stay if it has none yet. What was erased
// together with the name of its key may be of each feed. The end of such a key is for those
// who were there: nobody tells its name to others.
func (w *Watch) deliver(d *Delivery, events []*Event) {
	d.Position = w.position
	before := len(d.Entries)
	if before == 0 {
		d.Entries = events[:0]
		defer func() { clear(events[len(d.Entries):]) }() // they need not be kept for this delivery
	}
	for _, e := range events {
		switch {
		case e.Key == "", e.Operation == kv.OpDestroy && e.Revision <= w.born:
			if e.Revision > w.told {
				w.told, d.Compacted = e.Revision, e.Revision
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

// history delivers the next page of the database, up to that revision.
func (w *Watch) history(ctx context.Context, last int64) (Delivery, *page, error) {
	page, err := w.store.pages.get(ctx, database.EventsRequest{
		Keys: w.keys, After: w.position, Last: last, Known: w.told, Values: w.values,
	})
	if err != nil {
		return Delivery{}, nil, err
	}
	d := Delivery{Entries: slices.Clip(page.events), Position: page.Through, Compacted: page.Gone, Reset: w.reset}
	if w.reset {
		d.Compacted = max(page.Gone, w.store.restored)
	}
	w.told, w.reset = max(w.told, d.Compacted), false
	w.store.counters.events.Add(uint64(len(d.Entries)))
	l := w.store.log
	l.mu.Lock()
	defer l.mu.Unlock()
	w.position = page.Through
	w.restLocked()
	return d, page, nil
}
