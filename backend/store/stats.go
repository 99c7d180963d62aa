package store

import (
	"sync/atomic"

	"kvstore/backend/kv"
)

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
	queue := s.writer.queue
	stats := Stats{
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
