package store

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"kvstore/backend/kv"
)

const (
	// logEvents and logBytes bound what the log keeps, texts for watches included, together
	// with what one transaction made.
	logEvents = 16_384
	logBytes  = 16 << 20
	// deliveryBytes ends what one read of the log returns, behind a whole transaction.
	deliveryBytes = 256 << 10
	// logWindow is how many events one read of the log looks at, so that nobody waits for
	// its lock long.
	logWindow = 1024
)

// A log has the newest events, in the order of their revisions, each from the moment on
// when everybody may know of it. What is older is in the database.
//
// Whoever supplies it appends commits. Whoever must not be ahead of the others waits for a
// revision; whoever follows reads what came after one. All of this costs the same whoever
// else does it.
type log struct {
	mu     sync.Mutex    // guards all below
	head   int64         // the revision of the newest event
	events []*Event      // as a ring whose length is a power of two; see at
	first  int64         // the revision of the oldest event that is kept, head+1 when none is
	bytes  int64         // of the entries
	added  int64         // bytes of all entries that were ever added
	texts  atomic.Int64  // bytes of the texts
	moved  chan struct{} // closed with the next commit; nil when nobody waits
}

func newLog(revision int64) *log {
	return &log{head: revision, first: revision + 1, events: make([]*Event, logWindow)}
}

// append adds a commit, which has brought the store to that revision. It calls learn, in
// which the caller tells those who must not be behind the log, before anybody sees the
// revision.
func (l *log) append(written []kv.Entry, revision int64, learn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() { // whatever becomes of learn, it is on disk
		l.addLocked(written, revision)
		if l.moved != nil {
			close(l.moved)
			l.moved = nil
		}
	}()
	learn()
}

func (l *log) addLocked(written []kv.Entry, revision int64) {
	if len(written) > 0 && written[0].Revision != l.head+1 { // which cannot be
		l.emptyLocked(written[0].Revision - 1)
	}
	for i := range written {
		entry := &Event{Entry: written[i], last: i == len(written)-1, counted: &l.texts} // a copy, since its neighbours would be kept with it
		for l.first <= l.head && (l.head-l.first+1 >= logEvents || l.bytes+l.texts.Load()+entry.Size() > logBytes) && l.first < written[0].Revision {
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

// at is where the event of a revision is, or would be.
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

// erase takes out of the log what was erased of a key.
func (l *log) erase(e *erasure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for r := l.first; r <= l.head; r++ {
		had := *l.at(r)
		if had.Key != e.key || had.Operation == kv.OpDestroy || e.versions != nil && !slices.Contains(e.versions, had.Version) {
			continue
		}
		left := &Event{Entry: kv.Entry{Revision: r}, last: had.last, counted: &l.texts} // whose it was is forgotten
		if e.versions != nil {
			left.Entry = had.Entry
			left.Value, left.Destroyed = nil, true
		}
		l.bytes += left.Size() - had.Size()
		had.drop()
		*l.at(r) = left
	}
}

// emptyLocked drops what is in the log and goes on behind a revision.
func (l *log) emptyLocked(revision int64) {
	for l.first <= l.head {
		l.dropLocked()
	}
	l.head, l.first = revision, revision+1
}

// reached is the revision of the newest event.
func (l *log) reached() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// await returns once the log has reached a revision, or with the error of ctx.
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

// readLocked returns whole transactions behind a revision, as far as they are within
// logWindow and deliveryBytes, and how far that is; through is after when that is the end.
// The log must have what is behind after.
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
