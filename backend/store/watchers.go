package store

import (
	"container/list"
	"context"
	"slices"
	"sync/atomic"
	"time"

	"kvstore/backend/kv"
)

const (
	// defaultMaxWatchers is that of a Config that does not say.
	defaultMaxWatchers = 10_000
	// wakeChunk is how many watches are woken at a time. Who comes late finds more at once.
	wakeChunk = 32
	// restFactor times as long as it takes to wake more watches than that, the waking rests,
	// but no longer than longestRest; every restStep it looks whether it should go on.
	restFactor  = 3
	longestRest = 500 * time.Millisecond
	restStep    = 10 * time.Millisecond
)

// watchers knows who watches what, and wakes those who have something to read. A commit
// costs the writer the same, however many they are: it marks groups, of which there is one
// for each prefix, found by one look into a map for each length that some prefix has. A
// goroutine wakes their members.
type watchers struct {
	log *log
	max int
	cut *atomic.Uint64 // counts watches that were too slow
	// pacer is for what is delivered to many.
	pacer *pacer
	// ending ends when every feed must.
	ending context.Context //nolint:containedctx // it is no caller's
	end    context.CancelFunc
	marked chan struct{} // has one when groups are marked
	ended  chan struct{}

	// Under the lock of the log:
	open     int
	byPrefix map[string]*group
	lengths  []int       // of the prefixes, ascending
	ofLength map[int]int // how many prefixes have that length
	groups   []*group    // that are marked
	holders  list.List   // of the watches that have a delivery, by when they got it
	held     int64       // bytes of these, those that are shared for each
	shed     time.Time   // when the holders were looked after
}

// A group is the watches of one prefix.
type group struct {
	members []*subscription
	marked  bool
	first   int64 // the revision of the event that marked it
	last    int64 // the revision of its newest event
}

// A subscription is the place of a watch in a group. A watch has one for each of its
// prefixes, and a key has at most one of these.
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
		log: l, pacer: pacer, max: maxOpen, cut: cut, marked: make(chan struct{}, 1), ended: make(chan struct{}),
		byPrefix: map[string]*group{}, ofLength: map[int]int{},
	}
	w.ending, w.end = context.WithCancel(context.Background())
	go w.run()
	return w
}

// close ends every feed, and returns when nobody is woken any more.
func (w *watchers) close() {
	w.end()
	<-w.ended
}

// markLocked marks the groups of what was written.
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
		select {
		case w.marked <- struct{}{}:
		default: // it is awake
		}
	}
}

// run wakes watches until the feeds end.
func (w *watchers) run() {
	defer close(w.ended)
	var ready []*Watch
	var events int64 // at most, for each
	for {
		select {
		case <-w.marked:
		case <-w.ending.Done():
			return
		}
		began := time.Now()
		ready, events = w.takeMarked(ready[:0])
		for rest := ready; len(rest) > 0; {
			chunk := rest[:min(len(rest), wakeChunk)]
			time.Sleep(w.pacer.begin(len(chunk), events))
			for _, watch := range chunk {
				select {
				case watch.wake <- struct{}{}:
				default: // it knows already
				}
			}
			rest = rest[len(chunk):]
		}
		if len(ready) > wakeChunk {
			w.rest(time.Since(began))
		}
		clear(ready)
	}
}

// rest leaves the processors to the writer for a multiple of the time that a round took, so
// that the next round's deliveries have more events and cost less for each. It ends when
// nothing was written, and when there is a delivery's worth.
func (w *watchers) rest(took time.Duration) {
	until := time.Now().Add(min(restFactor*took, longestRest))
	w.log.mu.Lock()
	head, added := w.log.head, w.log.added
	w.log.mu.Unlock()
	for len(w.marked) > 0 && w.ending.Err() == nil && time.Now().Before(until) {
		time.Sleep(min(restStep, time.Until(until)))
		w.log.mu.Lock()
		enough := w.log.head-head >= logWindow/2 || w.log.added-added >= deliveryBytes/2
		w.log.mu.Unlock()
		if enough {
			return
		}
	}
}

// takeMarked tells the members of the groups that are marked from where on there is
// something to read for them, appends them to ready, and returns how many events that is
// for one of them at most.
func (w *watchers) takeMarked(ready []*Watch) (_ []*Watch, events int64) {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	for _, g := range w.groups {
		g.marked = false
		events = max(events, g.last-g.first+1)
		for _, s := range g.members {
			if s.watch.position < g.last {
				s.watch.noteLocked(g.first)
				ready = append(ready, s.watch)
			}
		}
	}
	clear(w.groups)
	w.groups = w.groups[:0]
	return ready, events
}

// admit counts a watch in and subscribes it, unless it begins beyond the log.
func (w *watchers) admit(watch *Watch, since int64) error {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	switch {
	case w.ending.Err() != nil:
		return errClosed
	case since > w.log.head:
		return kv.FutureRevision(since, w.log.head)
	case w.open >= w.max:
		return kv.TooManyWatchers(w.max)
	}
	w.open++
	watch.open, watch.born = true, w.log.head
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

// dismiss ends what admit began.
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
