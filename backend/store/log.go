package store

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"kvstore/backend/kv"
)

const (
	// logEvents and logBytes bound the log with its texts for watches. The newest
	// transaction is kept whole.
	logEvents = 16_384
	logBytes  = 16 << 20
	// deliveryBytes and logWindow end one read of the log, after a whole transaction, so that
	// it does not hold the lock long.
	deliveryBytes = 256 << 10
	logWindow     = 1024
	// textBytes is about the size of the text of an event without the strings of its entry.
	textBytes = 256
)

// A log holds the newest events in the order of their revisions, each from the moment when
// it may be seen. Older events are in the database.
//
// The writer appends commits. A read that must not be ahead of others awaits a revision. A
// watch reads what came after a revision. None of them depends on how many others there are.
type log struct {
	mu     sync.Mutex    // guards all below
	head   int64         // the revision of the newest event
	events []*Event      // a ring whose length is a power of two; see at
	first  int64         // the revision of the oldest event in the ring, head+1 without one
	bytes  int64         // of the entries
	added  int64         // bytes of all entries ever added
	texts  atomic.Int64  // bytes of the texts
	moved  chan struct{} // closed by the next commit; nil when nobody waits
}

func newLog(revision int64) *log {
	return &log{head: revision, first: revision + 1, events: make([]*Event, logWindow)}
}

// append adds a commit, after which the store is at that revision. It calls before with the
// lock held, for what must not be seen later than the revision.
func (l *log) append(written []kv.Entry, revision int64, before func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() { // even if before panics: the commit is on disk
		l.addLocked(written, revision)
		l.movedLocked()
	}()
	before()
}

// movedLocked wakes those who wait for a revision.
func (l *log) movedLocked() {
	if l.moved != nil {
		close(l.moved)
		l.moved = nil
	}
}

func (l *log) addLocked(written []kv.Entry, revision int64) {
	if len(written) > 0 && written[0].Revision != l.head+1 { // cannot happen
		l.emptyLocked(written[0].Revision - 1)
	}
	for i := range written {
		// A copy, since a pointer into written would keep all of it in memory.
		entry := &Event{Entry: written[i], last: i == len(written)-1, counted: &l.texts}
		for l.first <= l.head && l.first < written[0].Revision &&
			(l.head-l.first+1 >= logEvents || l.bytes+l.texts.Load()+entry.Size() > logBytes) {
			l.dropLocked()
		}
		if l.head-l.first+1 == int64(len(l.events)) {
			l.growLocked()
		}
		l.head = entry.Revision
		l.bytes += entry.Size()
		l.added += entry.Size()
		*l.at(l.head) = entry
	}
	l.head = revision
}

// at returns the place of the event of a revision.
func (l *log) at(revision int64) **Event { return &l.events[revision&int64(len(l.events)-1)] }

func (l *log) dropLocked() {
	slot := l.at(l.first)
	l.bytes -= (*slot).Size()
	(*slot).drop()
	*slot = nil
	l.first++
}

func (l *log) growLocked() {
	before := l.events
	l.events = make([]*Event, 2*len(before))
	for r := l.first; r <= l.head; r++ {
		*l.at(r) = before[r&int64(len(before)-1)]
	}
}

// erase removes what was erased of a key from the log.
func (l *log) erase(e *erasure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for r := l.first; r <= l.head; r++ {
		had := *l.at(r)
		if had.Key != e.key || had.Operation == kv.OpDestroy ||
			e.versions != nil && !slices.Contains(e.versions, had.Version) {
			continue
		}
		left := &Event{Entry: kv.Entry{Revision: r}, last: had.last, counted: &l.texts} // without the name of the key
		if e.versions != nil {
			left.Entry = had.Entry
			left.Value, left.Destroyed = nil, true
		}
		l.bytes += left.Size() - had.Size()
		had.drop()
		*l.at(r) = left
	}
}

// emptyLocked drops all events and goes on after a revision.
func (l *log) emptyLocked(revision int64) {
	for l.first <= l.head {
		l.dropLocked()
	}
	l.head, l.first = revision, revision+1
}

// reached returns the revision of the newest event.
func (l *log) reached() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// await returns when the log has reached a revision, or with the error of ctx.
func (l *log) await(ctx context.Context, revision int64) error {
	for {
		l.mu.Lock()
		if l.head >= revision {
			l.mu.Unlock()
			return nil
		}
		if l.moved == nil {
			l.moved = make(chan struct{})
		}
		moved := l.moved
		l.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// readLocked returns the whole transactions after a revision, within logWindow and
// deliveryBytes, and the revision of the last event, or after when there is none. The log must
// hold all events after it.
func (l *log) readLocked(after int64) (read []*Event, through int64) {
	read, through = make([]*Event, 0, min(l.head-after, logWindow)), after
	whole, bytes := 0, int64(0)
	for r := after + 1; r <= l.head; r++ {
		e := *l.at(r)
		read = append(read, e)
		bytes += e.Size()
		if e.last {
			whole, through = len(read), r
		}
		if whole > 0 && (len(read) >= logWindow || bytes >= deliveryBytes) {
			break
		}
	}
	return slices.Clip(read[:whole]), through
}

// An Event is a write as all watches share it. Nobody may change it.
type Event struct {
	kv.Entry

	last bool // of its transaction

	text atomic.Pointer[[]byte]
	bare atomic.Pointer[Event]

	mu      sync.Mutex    // guards the making of text and bare, and all below
	counted *atomic.Int64 // counts the bytes of the texts; nil when nobody does
}

// Text returns the event as encode appends it, which must be the same function for all watches
// with values and the same for all without. It is made once and shared. Nobody may change it.
func (e *Event) Text(encode func([]byte, *kv.Entry) []byte) []byte {
	if text := e.text.Load(); text != nil {
		return *text
	}
	text := encode(make([]byte, 0, e.Size()+textBytes), &e.Entry)
	e.mu.Lock()
	defer e.mu.Unlock()
	if made := e.text.Load(); made != nil {
		return *made
	}
	e.text.Store(&text)
	if e.counted != nil {
		e.counted.Add(int64(cap(text)))
	}
	return text
}

// withoutValue returns the event as watches without values share it.
func (e *Event) withoutValue() *Event {
	if bare := e.bare.Load(); bare != nil {
		return bare
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if made := e.bare.Load(); made != nil {
		return made
	}
	bare := &Event{Entry: e.Entry, counted: e.counted}
	bare.Value = nil
	e.bare.Store(bare)
	return bare
}

// drop ends the counting of its texts, because it is not kept for other watches any more.
func (e *Event) drop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if text := e.text.Load(); text != nil && e.counted != nil {
		e.counted.Add(-int64(cap(*text)))
	}
	e.counted = nil
	if bare := e.bare.Load(); bare != nil {
		bare.drop()
	}
}
