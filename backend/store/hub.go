package store

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"kvstore/backend/kv"
)

const (
	// defaultMaxWatchers is that of a Config that does not say.
	defaultMaxWatchers = 10_000
	// maxQueueEvents and maxQueueBytes bound what waits for one watcher, together
	// with what one transaction made. Watchers share the bytes.
	maxQueueEvents = 16_384
	maxQueueBytes  = 16 << 20
)

// hub hands what is published to the watchers of its keys. The writer calls publish
// and never waits in it for a watcher.
//
// Watchers are found by their prefixes: for a key, one look into a map for each
// length that some prefix has. So a watcher of other keys costs a write nothing, and
// is not woken.
type hub struct {
	max int
	// ending ends when every feed must.
	ending context.Context //nolint:containedctx // it is no caller's
	end    context.CancelFunc
	cut    *atomic.Uint64 // counts watches that were too slow
	// restored is the revision with which a restore of a backup went on.
	restored int64

	mu       sync.RWMutex // guards all below, and the fields of watches that say so
	revision int64        // up to which all was handed on
	watches  int          // that are open, subscribed or not
	byPrefix map[string][]*subscription
	lengths  []int       // of the prefixes, ascending
	ofLength map[int]int // how many prefixes have that length
	touched  []*Watch    // by the present publish
}

func newHub(maxWatchers int, totals kv.Totals) *hub {
	if maxWatchers == 0 {
		maxWatchers = defaultMaxWatchers
	}
	h := &hub{max: maxWatchers, restored: totals.Restored, revision: totals.Revision, byPrefix: map[string][]*subscription{}, ofLength: map[int]int{}}
	h.ending, h.end = context.WithCancel(context.Background())
	return h
}

// A subscription is the place of a watch among those of one prefix. A watch has one for
// each of its prefixes, and a key has at most one of these, so that a write comes once.
type subscription struct {
	watch  *Watch
	prefix string
	index  int // in the group of the prefix
}

// publish hands on what one transaction wrote. What a watcher gets of it, it gets at
// once.
func (h *hub) publish(written []kv.Written, revision int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.revision = revision
	if len(h.byPrefix) == 0 {
		return
	}
	for i := range written {
		h.match(&written[i].Entry)
	}
	for i, w := range h.touched {
		if !w.take() {
			h.cut.Add(1)
			h.unsubscribeLocked(w)
		}
		h.touched[i] = nil
	}
	h.touched = h.touched[:0]
}

// match notes an entry for each watch of its key.
func (h *hub) match(entry *kv.Entry) {
	var shared, bare *kv.Entry // copies, since the entry's neighbours would be kept with it
	for _, n := range h.lengths {
		if n > len(entry.Key) {
			return
		}
		for _, s := range h.byPrefix[entry.Key[:n]] {
			w := s.watch
			if shared == nil {
				clone, valueless := *entry, *entry
				valueless.Value = nil
				shared, bare = &clone, &valueless
			}
			if len(w.fresh) == 0 {
				h.touched = append(h.touched, w)
			}
			if w.values {
				w.fresh = append(w.fresh, shared)
			} else {
				w.fresh = append(w.fresh, bare)
			}
		}
	}
}

// admit counts a watch in.
func (h *hub) admit(w *Watch) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.ending.Err() != nil:
		return errClosed
	case h.watches >= h.max:
		return kv.TooManyWatchers(h.max)
	}
	h.watches++
	w.open = true
	return nil
}

// dismiss ends what admit and subscribe began.
func (h *hub) dismiss(w *Watch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.open {
		w.open = false
		h.watches--
	}
	h.unsubscribeLocked(w)
}

// subscribe lets w have everything behind the revision that it returns.
func (h *hub) subscribe(w *Watch) (revision int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.subscriptions = make([]subscription, len(w.keys))
	for i, prefix := range w.keys {
		w.subscriptions[i] = subscription{watch: w, prefix: prefix}
		h.joinLocked(&w.subscriptions[i])
	}
	return h.revision
}

func (h *hub) joinLocked(s *subscription) {
	group, known := h.byPrefix[s.prefix]
	if n := len(s.prefix); !known {
		if h.ofLength[n]++; h.ofLength[n] == 1 {
			at, _ := slices.BinarySearch(h.lengths, n)
			h.lengths = slices.Insert(h.lengths, at, n)
		}
	}
	s.index = len(group)
	h.byPrefix[s.prefix] = append(group, s)
}

func (h *hub) unsubscribeLocked(w *Watch) {
	for i := range w.subscriptions {
		h.leaveLocked(&w.subscriptions[i])
	}
	w.subscriptions = nil
}

func (h *hub) leaveLocked(s *subscription) {
	group := h.byPrefix[s.prefix]
	last := len(group) - 1
	group[s.index] = group[last]
	group[s.index].index = s.index
	group[last] = nil
	if last > 0 {
		h.byPrefix[s.prefix] = group[:last]
		return
	}
	delete(h.byPrefix, s.prefix)
	n := len(s.prefix)
	if h.ofLength[n]--; h.ofLength[n] == 0 {
		delete(h.ofLength, n)
		at, _ := slices.BinarySearch(h.lengths, n)
		h.lengths = slices.Delete(h.lengths, at, at+1)
	}
}

// reached is the revision up to which all was handed on.
func (h *hub) reached() int64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.revision
}
