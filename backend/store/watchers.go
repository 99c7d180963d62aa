package store

import (
	"container/list"
	"slices"
	"sync/atomic"
	"time"

	"kvstore/backend/kv"
)

const (
	// defaultMaxWatchers is the limit of a Config that does not set one.
	defaultMaxWatchers = 10_000
	// heldBytes bounds the deliveries of all watches that neither the log nor the pages
	// hold any more.
	heldBytes = 64 << 20
	// shedInterval is the least time between two looks at what they hold.
	shedInterval = 100 * time.Millisecond
)

// watchers is the task that wakes watches that have something to read. A commit costs the
// writer the same however many watches there are: it marks groups, one for each prefix, each
// found by one look into a map for each length that some prefix has. The task wakes the members
// of marked groups. Its context ends when every feed must.
type watchers struct {
	*task
	log    *log
	max    int
	cut    *atomic.Uint64 // counts watches that were too slow
	pacer  *pacer
	marked chan struct{} // holds an element when groups are marked

	// Under the lock of the log:
	open     int
	byPrefix map[string]*group
	lengths  []int       // of the prefixes, ascending
	ofLength map[int]int // how many prefixes have that length
	groups   []*group    // that are marked
	holders  list.List   // of the watches that have a delivery, by when they got it
	held     int64       // bytes of these, those that are shared for each
	shed     time.Time   // when the holders were last looked at
}

// A group is the watches of one prefix.
type group struct {
	members []*subscription
	marked  bool
	first   int64 // the revision of the event that marked it
	last    int64 // the revision of its newest event
}

// A subscription is the place of a watch in a group. A watch has one for each of its
// prefixes, and a key belongs to at most one of these.
type subscription struct {
	watch  *Watch
	prefix string
	group  *group
	index  int // among the members
}

func startWatchers(l *log, pacer *pacer, maxOpen int, cut *atomic.Uint64) *watchers {
	if maxOpen == 0 {
		maxOpen = defaultMaxWatchers
	}
	w := &watchers{
		log: l, pacer: pacer, max: maxOpen, cut: cut, marked: make(chan struct{}, 1),
		byPrefix: map[string]*group{}, ofLength: map[int]int{},
	}
	w.task = startTask(w.run)
	return w
}

// markLocked marks the groups whose keys were written.
func (w *watchers) markLocked(written []kv.Entry) {
	before := len(w.groups)
	for i := range written {
		key, revision := written[i].Key, written[i].Revision
		for _, n := range w.lengths {
			if n > len(key) {
				break
			}
			g := w.byPrefix[key[:n]]
			if g == nil {
				continue
			}
			if g.last = revision; !g.marked {
				g.marked, g.first = true, revision
				w.groups = append(w.groups, g)
			}
		}
	}
	if len(w.groups) > before {
		signal(w.marked)
	}
}

// restartLocked tells the watches that the log begins anew behind a revision, and was at another one.
// If lost, they end.
func (w *watchers) restartLocked(before, revision int64, lost bool) {
	for _, g := range w.byPrefix {
		for _, s := range g.members {
			if lost {
				s.watch.lost = true
			} else {
				s.watch.noteLocked(before + 1)
			}
			signal(s.watch.wake)
		}
		g.marked, g.last = false, revision
	}
	w.groups = w.groups[:0]
}

// any reports whether there is a watch.
func (w *watchers) any() bool {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	return w.open > 0
}

// admit counts a watch and subscribes it, unless it begins beyond the log.
func (w *watchers) admit(watch *Watch, since int64) error {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	switch {
	case w.ctx.Err() != nil:
		return errClosed
	case since > w.log.head:
		return kv.FutureRevision(since, w.log.head)
	case w.open >= w.max:
		return kv.TooManyWatchers(w.max)
	}
	w.open++
	watch.open, watch.opened = true, w.log.head
	watch.reset = 0 < since && since < watch.store.restored.Load()
	if watch.position = since; since == Now {
		watch.position = w.log.head
	}
	if watch.live = watch.position == w.log.head; !watch.live {
		watch.unread = watch.position + 1
	}
	watch.subscriptions = make([]subscription, len(watch.keys))
	for i, prefix := range watch.keys {
		watch.subscriptions[i] = subscription{watch: watch, prefix: prefix}
		w.joinLocked(&watch.subscriptions[i])
	}
	return nil
}

// dismiss undoes admit.
func (w *watchers) dismiss(watch *Watch) {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	w.releaseLocked(watch)
	if watch.open {
		watch.open = false
		w.open--
	}
	w.unsubscribeLocked(watch)
}

func (w *watchers) unsubscribeLocked(watch *Watch) {
	for i := range watch.subscriptions {
		w.leaveLocked(&watch.subscriptions[i])
	}
	watch.subscriptions = nil
}

func (w *watchers) joinLocked(s *subscription) {
	s.group = w.byPrefix[s.prefix]
	if n := len(s.prefix); s.group == nil {
		s.group = &group{}
		w.byPrefix[s.prefix] = s.group
		if w.ofLength[n]++; w.ofLength[n] == 1 {
			at, _ := slices.BinarySearch(w.lengths, n)
			w.lengths = slices.Insert(w.lengths, at, n)
		}
	}
	s.index = len(s.group.members)
	s.group.members = append(s.group.members, s)
}

func (w *watchers) leaveLocked(s *subscription) {
	g := s.group
	last := len(g.members) - 1
	g.members[s.index] = g.members[last]
	g.members[s.index].index = s.index
	g.members[last] = nil
	if g.members = g.members[:last]; last > 0 {
		return
	}
	delete(w.byPrefix, s.prefix)
	n := len(s.prefix)
	if w.ofLength[n]--; w.ofLength[n] == 0 {
		delete(w.ofLength, n)
		at, _ := slices.BinarySearch(w.lengths, n)
		w.lengths = slices.Delete(w.lengths, at, at+1)
	}
}

// A holding is the delivery that a watch holds from one call of Next to the following one.
type holding struct {
	bytes int64 // of its events of the log
	page  *page // its page of history, or nil
}

// hold counts a delivery to a watch: a page of history, or nil, and events of the log after it.
// When the deliveries of all watches are too large, it cuts off the watches that have held
// theirs the longest: they are behind the log, or have stopped reading.
func (w *watchers) hold(watch *Watch, of *page, events []*Event) {
	held := holding{page: of}
	for _, e := range events {
		held.bytes += 2*e.Size() + entryBytes + textBytes
	}
	w.log.mu.Lock()
	watch.held, watch.element = held, w.holders.PushBack(watch)
	w.held += held.size()
	var slow []*Watch
	if now := time.Now(); w.held > heldBytes && now.Sub(w.shed) >= shedInterval {
		w.shed = now
		slow = w.shedLocked()
	}
	w.log.mu.Unlock()
	for _, s := range slow {
		if s.slow != nil {
			s.slow()
		}
	}
}

func (h holding) size() int64 {
	if h.page == nil {
		return h.bytes
	}
	return h.bytes + h.page.bytes
}

// releaseLocked undoes hold.
func (w *watchers) releaseLocked(watch *Watch) {
	if watch.element == nil {
		return
	}
	w.holders.Remove(watch.element)
	w.held -= watch.held.size()
	watch.held, watch.element = holding{}, nil
}

// shedLocked cuts off watches and returns them. What the log or the pages still hold takes no
// memory by a watch, and what several watches hold of one page takes it once.
func (w *watchers) shedLocked() (slow []*Watch) {
	var kept int64
	pages := map[*page]bool{}
	for at := w.holders.Back(); at != nil; {
		watch := at.Value.(*Watch)
		at = at.Prev()
		bytes, of := watch.held.bytes, watch.held.page
		switch {
		case of == nil && watch.position >= w.log.first, of != nil && (pages[of] || !of.dropped.Load()):
			continue
		case of != nil:
			bytes += of.bytes
		}
		if kept+bytes <= heldBytes {
			kept += bytes
			if of != nil {
				pages[of] = true
			}
			continue
		}
		w.releaseLocked(watch)
		w.unsubscribeLocked(watch)
		watch.cut = true
		w.cut.Add(1)
		slow = append(slow, watch)
	}
	return slow
}
