package store

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

const (
	// maxBatchWrites and maxBatchBytes bound one transaction, and so how long a
	// write waits for its neighbours.
	maxBatchWrites = 128
	maxBatchBytes  = 8 << 20
	// queueLength is how many writes may wait for the writer; more wait in submit.
	queueLength = 256
)

// A write is one caller's wish and, when done is closed, its outcome.
type write struct {
	ctx   context.Context //nolint:containedctx // belongs to the caller that waits for the outcome
	key   string
	value []byte

	written kv.Written
	err     error
	done    chan struct{}
}

// writer is the goroutine that makes every write, and its queue.
type writer struct {
	store  *Store
	now    func() time.Time
	logger *slog.Logger
	queue  chan *write
	ended  chan struct{}

	// mu is held for reading while a caller puts a write into the queue, so that
	// the queue is not closed under it.
	mu     sync.RWMutex
	closed bool
}

func startWriter(s *Store, cfg Config) *writer {
	w := &writer{
		store:  s,
		now:    cfg.Now,
		logger: cfg.Logger,
		queue:  make(chan *write, queueLength),
		ended:  make(chan struct{}),
	}
	go w.run()
	return w
}

func (w *writer) close() {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.queue)
	}
	w.mu.Unlock()
	<-w.ended
}

// submit hands a write to the writer and waits for its outcome.
func (w *writer) submit(ctx context.Context, key string, value []byte) (kv.Written, error) {
	wish := &write{ctx: ctx, key: key, value: value, done: make(chan struct{})}
	if err := w.enqueue(wish); err != nil {
		return kv.Written{}, err
	}
	select {
	case <-wish.done:
		return wish.written, wish.err
	case <-ctx.Done():
		return kv.Written{}, ctx.Err()
	}
}

func (w *writer) enqueue(wish *write) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return errClosed
	}
	select {
	case w.queue <- wish:
		return nil
	case <-wish.ctx.Done():
		return wish.ctx.Err()
	}
}

// run applies batches until the queue is closed and empty.
func (w *writer) run() {
	defer close(w.ended)
	for first := range w.queue {
		w.commit(w.take(first))
	}
}

// take returns first and what waits behind it, within the bounds of a batch. A
// write whose caller has gone is left out.
func (w *writer) take(first *write) []*write {
	var batch []*write
	bytes := 0
	for next := first; ; {
		if err := next.ctx.Err(); err != nil {
			next.err = err
			close(next.done)
		} else {
			batch = append(batch, next)
			bytes += len(next.value)
		}
		if len(batch) >= maxBatchWrites || bytes >= maxBatchBytes {
			return batch
		}
		select {
		case queued, ok := <-w.queue:
			if !ok {
				return batch
			}
			next = queued
		default:
			return batch
		}
	}
}

// commit applies a batch in one transaction, publishes it and answers it. When a
// write cannot be applied, each is tried in a transaction of its own, so that only
// the cause fails. When the commit fails, all fail.
func (w *writer) commit(batch []*write) {
	if len(batch) == 0 {
		return
	}
	applied, err := w.transact(batch)
	if err != nil && !applied && len(batch) > 1 {
		w.logger.Warn("a batch could not be applied; its writes are tried one by one", "writes", len(batch), "error", err)
		for i := range batch {
			w.commit(batch[i : i+1])
		}
		return
	}
	if err != nil {
		w.logger.Error("writes failed", "writes", len(batch), "first_key", batch[0].key, "error", err)
	}
	for _, wish := range batch {
		wish.err = err
		close(wish.done)
	}
}

// transact commits a batch and publishes it, or returns why nothing of it was
// written. It reports whether every write could be applied, so that an error is
// that of the commit.
func (w *writer) transact(batch []*write) (applied bool, err error) {
	s := w.store
	s.publishing.Lock()
	defer s.publishing.Unlock()
	var revision int64
	// The transaction belongs to all its writes, so no single caller can end it.
	err = s.db.Update(context.Background(), func(tx *database.Tx) error {
		if err := w.apply(tx, batch); err != nil {
			return err
		}
		applied, revision = true, tx.Totals.Revision
		return nil
	})
	if err != nil {
		return applied, err
	}
	if s.hooks.afterCommit != nil {
		s.hooks.afterCommit()
	}
	for _, wish := range batch {
		s.cache.Put(wish.key, wish.written.Entry)
		s.retention.written(wish.written)
	}
	s.published.Store(revision)
	return true, nil
}

// apply numbers the writes in their order and appends them.
func (w *writer) apply(tx *database.Tx, batch []*write) error {
	heads, err := tx.Heads(keysOf(batch))
	if err != nil {
		return err
	}
	now := kv.NewTimestamp(w.now())
	entries := make([]kv.Entry, 0, len(batch))
	for _, wish := range batch {
		head := heads[wish.key]
		wish.written = next(tx, &head, wish, now)
		heads[wish.key] = head
		entries = append(entries, wish.written.Entry)
	}
	return tx.Append(heads, entries)
}

// next makes the entry that follows head, and moves head and the store's counters
// on to it.
func next(tx *database.Tx, head *database.Head, wish *write, now kv.Timestamp) kv.Written {
	previous := head.Version
	tx.Totals.Revision++
	tx.Totals.Versions++
	if head.ID == 0 {
		head.ID = tx.Totals.Revision
		tx.Totals.Keys++
	}
	head.Version++
	head.TotalVersions++
	head.Revision = tx.Totals.Revision
	head.Time = max(head.Time, now) // a clock that was set back must not turn time back
	return kv.Written{
		Entry: kv.Entry{
			Key: wish.key, Value: wish.value,
			Version: head.Version, Revision: head.Revision, Time: head.Time,
		},
		Previous:      previous,
		TotalVersions: head.TotalVersions,
	}
}

// keysOf returns each key of the batch once.
func keysOf(batch []*write) []string {
	seen := make(map[string]bool, len(batch))
	keys := make([]string, 0, len(batch))
	for _, wish := range batch {
		if !seen[wish.key] {
			seen[wish.key] = true
			keys = append(keys, wish.key)
		}
	}
	return keys
}
