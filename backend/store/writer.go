package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"kvstore/backend/database"
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

// writer is the task that makes every write.
type writer struct {
	*task
	store   *Store
	logger  *slog.Logger
	observe Observe
	queue   *queue
	began   atomic.Pointer[time.Time] // the transaction that is under way, nil when none is

	// Failed writes that are not in the log yet, and the time of the last line.
	failedWrites int
	toldFailure  time.Time
}

func startWriter(s *Store, cfg Config) *writer {
	w := &writer{store: s, logger: cfg.Logger, observe: cfg.Observe, queue: newQueue(cfg)}
	w.task = startTask(w.run)
	return w
}

// close refuses further requests, and returns when those that were accepted are answered.
func (w *writer) close() {
	w.queue.close()
	<-w.ended
}

// run ends with the queue, so that what was accepted is finished.
func (w *writer) run(context.Context) {
	for {
		batch, ok := w.queue.take()
		if !ok {
			return
		}
		w.commit(batch)
	}
}

// commit applies a batch in one transaction, publishes it and answers it. When a
// write cannot be applied, each request is tried in a transaction of its own, so that
// only the cause fails. When the transaction cannot begin, the commit or the disk
// fails, all fail.
func (w *writer) commit(batch []*request) {
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
	for _, r := range batch {
		w.queue.answer(r, err)
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

// progress is how far a transaction got.
type progress int

const (
	waiting progress = iota // it did not begin
	begun                   // a write could not be applied
	applied                 // every write was, and the commit came next
)

// transact commits a batch and publishes it, or returns why not and how far it got.
func (w *writer) transact(batch []*request) (got progress, err error) {
	s := w.store
	began := time.Now()
	w.began.Store(&began)
	defer w.began.Store(nil)
	defer s.endErasure()
	// The transaction belongs to all its requests, so no single caller can end it.
	ctx, done := w.begin(batch)
	p, got, err := w.update(ctx, batch)
	s.full.Store(errors.Is(err, kv.ErrStorageFull))
	switch {
	case err == nil:
		if !w.guard(func() { s.publish(p) }) {
			w.guard(func() { s.publishAgain(p) })
		}
	case errors.Is(err, kv.ErrOutcomeUnknown) && p != nil:
		w.guard(func() { s.uncache(p) })
	}
	w.guard(func() { done(p, err) })
	return got, err
}

// update is the transaction. A defect of the program must not end the only writer: a
// panic before the commit is kv.ErrUnavailable, with nothing written. Behind that point
// it is kv.ErrOutcomeUnknown.
func (w *writer) update(ctx context.Context, batch []*request) (p *pending, got progress, err error) {
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
		if p, err = w.apply(tx, batch); err != nil {
			return err
		}
		got = applied
		w.store.erasing.Store(p.erased)
		return nil
	})
	return p, got, err
}

// apply applies the requests in their order, and saves what they append.
func (w *writer) apply(tx *database.Tx, batch []*request) (*pending, error) {
	p, err := w.store.pending(tx, batch)
	if err != nil {
		return nil, err
	}
	for _, r := range batch {
		if err := p.apply(r); err != nil {
			return nil, err
		}
	}
	if err := p.save(); err != nil {
		return nil, err
	}
	for _, r := range batch {
		p.settle(r)
	}
	return p, nil
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

// begin tells the observer of a transaction.
func (w *writer) begin(batch []*request) (ctx context.Context, done func(*pending, error)) {
	if w.observe == nil {
		return context.Background(), func(*pending, error) {}
	}
	callers := make([]context.Context, 0, len(batch))
	for _, r := range batch {
		callers = append(callers, r.ctx)
	}
	ctx, end := w.observe(callers)
	return ctx, func(p *pending, err error) {
		t := Transaction{Err: err}
		if kv.ClassOf(err) == kv.ClassRefused { // such as that of a request which must be alone
			t.Err = nil
		}
		if err == nil && p != nil {
			t.Versions = len(p.written)
		}
		end(t)
	}
}
