package store

import (
	"sync"

	"kvstore/backend/kv"
)

// The bounds of a Config that does not say. The rate of writes is at its highest from
// some hundred clients on. The first bound is several times as many, since to refuse
// costs a processor as much as to write does, and still less than a second of writes.
// The second lets 256 clients write half a megabyte each at once; with that the process
// held 450 MiB.
const (
	defaultMaxQueuedWrites = 4096
	defaultMaxQueuedBytes  = 128 << 20
)

// queueLoad is what the writer has still to do: the units that were accepted and are
// not answered. It refuses what goes over its bounds, so that under more load than
// the disk takes neither memory nor the time that a write waits grows.
type queueLoad struct {
	maxWrites int
	maxBytes  int64

	mu     sync.Mutex // guards all below
	writes int
	bytes  int64
}

func newQueueLoad(cfg Config) *queueLoad {
	l := &queueLoad{maxWrites: cfg.MaxQueuedWrites, maxBytes: cfg.MaxQueuedBytes}
	if l.maxWrites == 0 {
		l.maxWrites = defaultMaxQueuedWrites
	}
	if l.maxBytes == 0 {
		l.maxBytes = defaultMaxQueuedBytes
	}
	return l
}

// admit counts u, or returns kv.ErrOverloaded. What is alone over a bound is admitted
// when nothing else waits: else it never would be.
func (l *queueLoad) admit(u *unit) error {
	writes, bytes := max(len(u.changes), 1), int64(u.bytes())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writes > 0 {
		if l.writes+writes > l.maxWrites {
			return kv.TooManyWrites(l.maxWrites)
		}
		if l.bytes+bytes > l.maxBytes {
			return kv.TooManyBytes(l.maxBytes)
		}
	}
	l.writes += writes
	l.bytes += bytes
	u.admittedWrites, u.admittedBytes = writes, bytes
	return nil
}

// release uncounts u, which has its outcome.
func (l *queueLoad) release(u *unit) {
	if u.admittedWrites == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes -= u.admittedWrites
	l.bytes -= u.admittedBytes
}

// Queued is how many writes were accepted and are not answered, and the bytes of their
// values.
func (s *Store) Queued() (writes int, bytes int64) {
	l := s.writer.load
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writes, l.bytes
}
