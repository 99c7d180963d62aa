package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

const (
	// maxBatchWrites and maxBatchBytes bound one transaction, and so how long a
	// write waits for its neighbours.
	maxBatchWrites = 128
	maxBatchBytes  = 8 << 20
)

// A unit is what is written whole or not at all: one change, or those of a batch;
// or, with alone set, something that needs a transaction of its own. Its outcome is
// there when done is closed.
type unit struct {
	ctx          context.Context //nolint:containedctx // belongs to the caller that waits for the outcome
	requirements []Requirement
	changes      []Change
	batch        bool // an error names the index of its change
	alone        func(*stage) error

	admittedWrites int // what queueLoad has counted
	admittedBytes  int64

	results  []Result
	revision int64 // of the store after the unit
	err      error
	done     chan struct{}
}

// keys returns those whose heads the unit needs.
func (u *unit) keys(add func(string)) {
	for _, r := range u.requirements {
		add(r.Key)
	}
	for _, c := range u.changes {
		add(c.Key)
	}
}

func (u *unit) bytes() (n int) {
	for _, c := range u.changes {
		n += len(c.Value)
	}
	return n
}

// writer is the goroutine that makes every write, and its queue.
type writer struct {
	store   *Store
	logger  *slog.Logger
	observe Observe
	queue   chan *unit // has room for all that load admits
	load    *queueLoad
	next    *unit // taken, but for the next batch
	ended   chan struct{}
	began   atomic.Pointer[time.Time] // the transaction that is under way, nil when none is

	// Used by run alone: writes that failed and are not in the log yet, and the last line.
	failedWrites int
	toldFailure  time.Time

	// mu is held for reading while a caller puts a unit into the queue, so that
	// the queue is not closed under it.
	mu     sync.RWMutex
	closed bool
}

func startWriter(s *Store, load *queueLoad, cfg Config) *writer {
	w := &writer{
		store:   s,
		logger:  cfg.Logger,
		observe: cfg.Observe,
		queue:   make(chan *unit, load.maxWrites),
		load:    load,
		ended:   make(chan struct{}),
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

// submit hands a unit to the writer and waits for its outcome. It refuses the unit at
// once, with kv.ErrOverloaded, when too much waits already.
func (w *writer) submit(u *unit) error {
	if err := w.load.admit(u); err != nil {
		return err
	}
	return w.await(u)
}

// await is submit without the refusal.
func (w *writer) await(u *unit) error {
	if err := w.enqueue(u); err != nil {
		w.load.release(u)
		return err
	}
	select {
	case <-u.done:
		return u.err
	case <-u.ctx.Done():
		return u.ctx.Err()
	}
}

// enqueue puts a unit into the queue. What the store itself writes comes here without
// submit: it is never refused, and waits for room.
func (w *writer) enqueue(u *unit) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return errClosed
	}
	select {
	case w.queue <- u:
		return nil
	case <-u.ctx.Done():
		return u.ctx.Err()
	}
}

// run applies batches until the queue is closed and empty.
func (w *writer) run() {
	defer close(w.ended)
	for {
		first := w.next
		if w.next = nil; first == nil {
			queued, ok := <-w.queue
			if !ok {
				return
			}
			first = queued
		}
		// Lets those that were answered just now write again within this batch; else the
		// callers split into two halves that wait for each other.
		runtime.Gosched()
		w.commit(w.take(first))
	}
}

// take returns first and what waits behind it, within the bounds of a transaction.
// A unit whose caller has gone is left out; one that must be alone ends the batch.
func (w *writer) take(first *unit) []*unit {
	var batch []*unit
	writes, bytes := 0, 0
	for next := first; ; {
		switch err := next.ctx.Err(); {
		case err != nil:
			w.answer(next, err)
		case next.alone != nil && len(batch) > 0:
			w.next = next
			return batch
		default:
			batch = append(batch, next)
			writes += len(next.changes)
			bytes += next.bytes()
		}
		if len(batch) > 0 && batch[0].alone != nil || writes >= maxBatchWrites || bytes >= maxBatchBytes {
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
// write cannot be applied, each unit is tried in a transaction of its own, so that
// only the cause fails. When the transaction cannot begin, the commit or the disk
// fails, all fail.
func (w *writer) commit(batch []*unit) {
	if len(batch) == 0 {
		return
	}
	got, err := w.transact(batch)
	if err != nil && got == begun && len(batch) > 1 && !errors.Is(err, kv.ErrDiskFailed) {
		w.logger.Warn("a batch could not be applied; its writes are tried one by one", "writes", len(batch), "error", err)
		for i := range batch {
			w.commit(batch[i : i+1])
		}
		return
	}
	if err != nil && kv.ClassOf(err) != kv.ClassRefused {
		w.logFailure(len(batch), err)
	}
	for _, u := range batch {
		w.answer(u, err)
	}
}

// logFailure tells of the first failure, and then once a second of all: a disk that fails
// at once lets thousands of writes fail in that time.
func (w *writer) logFailure(writes int, err error) {
	w.failedWrites += writes
	if now := time.Now(); now.Sub(w.toldFailure) >= time.Second {
		w.logger.Error("writes failed", "writes", w.failedWrites, "error", err)
		w.failedWrites, w.toldFailure = 0, now
	}
}

// answer lets the caller of u go on, with err or, when it is nil, with what u has.
func (w *writer) answer(u *unit, err error) {
	if err != nil {
		u.err = err
	}
	w.load.release(u)
	close(u.done)
}

// progress is how far a transaction got.
type progress int

const (
	waiting   progress = iota // it did not begin
	begun                     // a write could not be applied
	applied                   // every write was
	committed                 // and is on disk
)

// transact commits a batch and publishes it, or returns why not and how far it got.
func (w *writer) transact(batch []*unit) (got progress, err error) {
	s := w.store
	began := time.Now()
	w.began.Store(&began)
	defer w.began.Store(nil)
	defer func() {
		if e := s.erasing.Swap(nil); e != nil {
			close(e.done)
		}
	}()
	// The transaction belongs to all its units, so no single caller can end it.
	ctx, done := w.begin(batch)
	st, got, err := w.update(ctx, batch)
	s.full.Store(errors.Is(err, kv.ErrStorageFull))
	switch {
	case err == nil:
		if !w.guard(func() { s.publish(st) }) {
			w.guard(func() { s.recover(st) })
		}
	case errors.Is(err, kv.ErrOutcomeUnknown) && st != nil:
		w.guard(func() { s.uncache(st) })
	}
	w.guard(func() { done(st, err) })
	return got, err
}

// update is the transaction. A defect of the program must not end the only writer: a
// panic before the commit is kv.ErrUnavailable, with nothing written. Behind that point
// it is kv.ErrOutcomeUnknown.
func (w *writer) update(ctx context.Context, batch []*unit) (st *stage, got progress, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			kind := kv.ErrUnavailable
			if got == applied {
				kind = kv.ErrOutcomeUnknown
			}
			err = fmt.Errorf("%w: panic: %v\n%s", kind, cause, debug.Stack())
		}
	}()
	err = w.store.db.Update(ctx, func(tx *database.Tx) (err error) {
		got = begun
		if st, err = w.apply(tx, batch); err == nil {
			got = applied
		}
		if err == nil {
			w.store.erasing.Store(st.erased)
		}
		return err
	})
	if err == nil {
		got = committed
	}
	return st, got, err
}

// guard calls fn, which belongs to what a transaction is followed by, and reports whether
// it came to its end. Its answers are settled by then, so a panic is logged and changes none.
func (w *writer) guard(fn func()) (ended bool) {
	defer func() {
		if cause := recover(); cause != nil {
			w.logger.Error("a defect of the program after a transaction, whose answers it does not change",
				"panic", cause, "stack", string(debug.Stack()))
		}
	}()
	fn()
	return true
}

// publish lets everybody know of a transaction: those who follow the log, and in the same
// moment the cache.
func (s *Store) publish(st *stage) {
	if s.hooks.afterCommit != nil {
		s.hooks.afterCommit()
	}
	if st.erased != nil {
		s.log.erase(st.erased)
		s.pages.forget()
	}
	s.log.append(st.written, st.tx.Totals.Revision, func() {
		s.watchers.markLocked(st.written)
		for _, w := range st.written {
			if w.Entry.Operation.Tombstone() {
				s.cache.Remove(w.Entry.Key)
			} else {
				s.cache.Put(w.Entry.Key, w.Entry)
			}
		}
		for _, key := range st.uncached {
			s.cache.Remove(key)
		}
	})
	s.counters.pruned.Add(uint64(st.tx.Trimmed))
	for _, w := range st.written {
		s.counters.wrote(w.Entry.Operation)
	}
}

// recover is publish after it has panicked: the cache forgets the keys, so that the
// database is asked for them.
func (s *Store) recover(st *stage) {
	s.uncache(st)
	if s.log.reached() < st.tx.Totals.Revision {
		s.log.append(st.written, st.tx.Totals.Revision, func() { s.watchers.markLocked(st.written) })
	}
}

// uncache takes out of the cache what a transaction changed.
func (s *Store) uncache(st *stage) {
	for _, w := range st.written {
		s.cache.Remove(w.Entry.Key)
	}
	for _, key := range st.uncached {
		s.cache.Remove(key)
	}
}

// stage returns that of a transaction, with the heads of the keys of a batch.
func (s *Store) stage(tx *database.Tx, batch []*unit) (*stage, error) {
	heads, failed, err := tx.SoundHeads(keysOf(batch))
	if err != nil {
		return nil, err
	}
	tx.Keep = s.keep
	limit := s.maxValueBytes
	return &stage{tx: tx, now: s.clock.now(), heads: heads, failed: failed, maxRead: max(maxBatchRead, limit), maxValueBytes: limit}, nil
}

// apply applies the units in their order.
func (w *writer) apply(tx *database.Tx, batch []*unit) (*stage, error) {
	st, err := w.store.stage(tx, batch)
	if err != nil {
		return nil, err
	}
	for _, u := range batch {
		if u.alone != nil {
			return st, u.alone(st)
		}
		if err := st.apply(u); err != nil {
			return nil, err
		}
	}
	if err := st.save(); err != nil {
		return st, err
	}
	for _, u := range batch {
		st.settle(u)
	}
	return st, nil
}

// keysOf returns each key of the batch once.
func keysOf(batch []*unit) []string {
	seen := make(map[string]bool, len(batch))
	keys := make([]string, 0, len(batch))
	for _, u := range batch {
		u.keys(func(key string) {
			if !seen[key] {
				seen[key] = true
				keys = append(keys, key)
			}
		})
	}
	return keys
}
