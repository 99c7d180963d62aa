package store

import (
	"context"
	"sync/atomic"
	"time"

	"kvstore/backend/cache"
	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// Stats describe what a store has done since it was opened, and its present state.
type Stats struct {
	// Cache describes the cache.
	Cache cache.Stats
	// QueuedWrites were accepted and are not answered, MaxQueuedWrites is their limit; the
	// same of the bytes of their values.
	QueuedWrites, MaxQueuedWrites int
	QueuedBytes, MaxQueuedBytes   int64
	// Written counts the versions that were written, by operation.
	Written map[kv.Operation]uint64
	// Pruned counts the versions that retention has deleted.
	Pruned uint64
	// Damage counts how often a read, a write or the check at the start has found a
	// damaged row or page.
	Damage uint64
	// Watchers are open, MaxWatchers is their limit.
	Watchers, MaxWatchers int
	// Events counts the events that were delivered to watchers, Cut the watchers that
	// were too slow.
	Events, Cut uint64
}

// Stats may be called at any time; it waits only for locks that are held briefly.
func (s *Store) Stats() Stats {
	s.log.mu.Lock()
	watchers := s.watchers.open
	s.log.mu.Unlock()
	queue := s.writer.queue
	stats := Stats{
		Cache:           s.cache.Stats(),
		MaxQueuedWrites: queue.maxWrites, MaxQueuedBytes: queue.maxBytes, Written: map[kv.Operation]uint64{},
		Pruned: s.counters.pruned.Load(), Damage: s.db.Damage(), Watchers: watchers, MaxWatchers: s.watchers.max,
		Events: s.counters.events.Load(), Cut: s.counters.cut.Load(),
	}
	stats.QueuedWrites, stats.QueuedBytes = queue.load()
	for i, operation := range operations {
		stats.Written[operation] = s.counters.written[i].Load()
	}
	return stats
}

// Sharing describes what a backend knows of a store that others share, and what it has done for that
// since it was opened.
type Sharing struct {
	// Commit is the number of the last commit that it has published, and Revision that of the store
	// then. Age is that of Store.Age.
	Commit, Revision int64
	Age              time.Duration
	// Leads means that it ends keys and removes versions for all backends.
	Leads bool
	// Rounds counts the questions for the last commit. Waiting reads wait for the next answer.
	Rounds  uint64
	Waiting int64
	// Stale counts reads that were answered from what was known, and StaleAge is the sum of their ages.
	Stale    uint64
	StaleAge time.Duration
	// Rewritten counts how often the engine had lost commits, and RewrittenAt is when that was found
	// out last.
	Rewritten   uint64
	RewrittenAt time.Time
}

// Sharing reports false when no other backend can share the store.
func (s *Store) Sharing() (Sharing, bool) {
	f := s.follower
	if f == nil {
		return Sharing{}, false
	}
	sharing := Sharing{
		Commit: f.applied.Load(), Revision: s.log.reached(), Age: s.Age(), Leads: s.janitor.leads.Load(),
		Rounds: f.rounds.Load(), Waiting: f.waiting.Load(),
		Stale: s.counters.stale.Load(), StaleAge: time.Duration(s.counters.staleAge.Load()) * time.Microsecond,
		Rewritten: f.rewritten.Load(),
	}
	if at := f.rewrittenAt.Load(); at != nil {
		sharing.RewrittenAt = *at
	}
	return sharing, true
}

// Describe tells of the server of the database, and reports false when it has none.
func (s *Store) Describe(ctx context.Context) (d database.Description, ok bool, err error) {
	engine, ok := s.db.Shared()
	if ok {
		d, err = engine.Describe(ctx)
	}
	return d, ok, err
}

// DatabaseStats describes the database, in constant time.
func (s *Store) DatabaseStats(ctx context.Context) (kv.DatabaseStats, error) { return s.db.Stats(ctx) }

// operations are those of versions.
var operations = [...]kv.Operation{kv.OpPut, kv.OpPatch, kv.OpRevert, kv.OpDelete, kv.OpExpire, kv.OpDestroy}

// counters count from the start of the process.
type counters struct {
	written             [len(operations)]atomic.Uint64
	pruned, events, cut atomic.Uint64
	stale, staleAge     atomic.Uint64 // reads of Known; the sum of their ages in microseconds
}

func (c *counters) wrote(operation kv.Operation) {
	for i, known := range operations {
		if operation == known {
			c.written[i].Add(1)
			return
		}
	}
}
