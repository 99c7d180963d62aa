package store

import (
	"context"
	"sync/atomic"

	"kvstore/backend/kv"
)

// Observe is called before each transaction of the writer with the contexts of the
// callers whose writes go into it together, and must not keep them. The context that
// it returns is the transaction's; it must not end. done is called after the
// transaction, when its callers are about to be answered. Both hold up every write.
type Observe func(callers []context.Context) (ctx context.Context, done func(Transaction))

// A Transaction is what one of the writer's did.
type Transaction struct {
	// Versions is how many were appended; 0 when it failed.
	Versions int
	// Err is why nothing of it was written, or nil. When it has several callers and
	// one write cannot be applied, each is tried again in a transaction of its own.
	Err error
}

// begin tells the observer of a transaction.
func (w *writer) begin(batch []*unit) (ctx context.Context, done func(*stage, error)) {
	if w.observe == nil {
		return context.Background(), func(*stage, error) {}
	}
	callers := make([]context.Context, 0, len(batch))
	for _, u := range batch {
		callers = append(callers, u.ctx)
	}
	ctx, end := w.observe(callers)
	return ctx, func(st *stage, err error) {
		t := Transaction{Err: err}
		if kv.ClassOf(err) == kv.ClassRefused { // such as that of a unit which must be alone
			t.Err = nil
		}
		if err == nil && st != nil {
			t.Versions = len(st.written)
		}
		end(t)
	}
}

// Stats describe what a store has done since it was opened, and does now.
type Stats struct {
	// QueuedWrites were accepted and are not answered, MaxQueuedWrites are the most
	// that may be; the same of the bytes of their values.
	QueuedWrites, MaxQueuedWrites int
	QueuedBytes, MaxQueuedBytes   int64
	// Written counts the versions that were written, by their operation.
	Written map[kv.Operation]uint64
	// Pruned counts the versions that retention has deleted.
	Pruned uint64
	// Damage counts how often a read, a write or the check at the start has found a
	// damaged row or page.
	Damage uint64
	// Watchers are open now, MaxWatchers the most that may be.
	Watchers, MaxWatchers int
	// Events counts those that were delivered to watchers, Cut the watchers that
	// were too slow.
	Events, Cut uint64
}

// Stats may be called at any time; it waits for nothing but two locks that are held shortly.
func (s *Store) Stats() Stats {
	s.log.mu.Lock()
	watchers := s.watchers.open
	s.log.mu.Unlock()
	load := s.writer.load
	stats := Stats{
		MaxQueuedWrites: load.maxWrites, MaxQueuedBytes: load.maxBytes, Written: map[kv.Operation]uint64{},
		Pruned: s.counters.pruned.Load(), Damage: s.db.Damage(), Watchers: watchers, MaxWatchers: s.watchers.max,
		Events: s.counters.events.Load(), Cut: s.counters.cut.Load(),
	}
	stats.QueuedWrites, stats.QueuedBytes = s.Queued()
	for i, operation := range operations {
		stats.Written[operation] = s.counters.written[i].Load()
	}
	return stats
}

// LogBytes is the size of the database's write-ahead log.
func (s *Store) LogBytes() (int64, error) { return s.db.LogBytes() }

// DiskBytes are those of the file system that the database is on.
func (s *Store) DiskBytes() (free, size int64, known bool) { return s.db.DiskBytes() }

// operations are those of versions.
var operations = [...]kv.Operation{kv.OpPut, kv.OpPatch, kv.OpRevert, kv.OpDelete, kv.OpExpire, kv.OpDestroy}

// counters count from the start of the process.
type counters struct {
	written             [len(operations)]atomic.Uint64
	pruned, events, cut atomic.Uint64
}

func (c *counters) wrote(operation kv.Operation) {
	for i, known := range operations {
		if operation == known {
			c.written[i].Add(1)
			return
		}
	}
}
