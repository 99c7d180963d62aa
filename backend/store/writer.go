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
// callers whose writes it makes, and must not keep them. It returns the context of the
// transaction, which must not end. done is called after the transaction, before its callers
// are answered. Both delay every write.
type Observe func(callers []context.Context) (ctx context.Context, done func(Transaction))

// A Transaction is what a transaction of the writer did.
type Transaction struct {
	// Versions is how many versions were appended; 0 when it failed.
	Versions int
	// Err is why nothing was written, or nil. When it has several callers and
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
	began   atomic.Pointer[time.Time] // when the current transaction began, nil without one

	failedWrites  int // that are not logged yet
	failureLogged time.Time
}

func startWriter(s *Store, cfg Config) *writer {
	w := &writer{store: s, logger: cfg.Logger, observe: cfg.Observe, queue: newQueue(cfg)}
	w.task = startTask(w.run)
	return w
}

// close refuses further requests and returns when the accepted ones are answered.
func (w *writer) close() {
	w.queue.close()
	<-w.ended
}

// run ends when the queue is closed and empty. Its context is not used.
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

// logFailure logs the first failure, and then at most one line a second: on a disk that fails
// at once, thousands of writes fail in that time.
func (w *writer) logFailure(writes int, err error) {
	w.failedWrites += writes
	if now := time.Now(); now.Sub(w.failureLogged) >= time.Second {
		w.logger.Error("writes failed", "writes", w.failedWrites, "error", err)
		w.failedWrites, w.failureLogged = 0, now
	}
}

// progress is how far a transaction got.
type progress int

const (
	waiting progress = iota // it did not begin
	begun                   // a request could not be applied
	applied                 // every request was, and the commit came next
)

// transact commits a batch and publishes it, or returns why not and how far it got.
func (w *writer) transact(batch []*request) (got progress, err error) {
	s := w.store
	began := time.Now()
	w.began.Store(&began)
	defer w.began.Store(nil)
	defer s.endErasure()
	// The transaction belongs to all its requests, so the context of no caller ends it.
	ctx, done := w.begin(batch)
	p, got, err := w.update(ctx, batch)
	s.full.Store(errors.Is(err, kv.ErrStorageFull))
	switch {
	case err == nil:
		s.count(p)
		w.publish(ctx, p)
	case errors.Is(err, kv.ErrOutcomeUnknown) && p != nil:
		w.guard(func() { s.uncache(p) })
	}
	w.guard(func() { done(p, err) })
	return got, err
}

// publish makes a committed transaction visible.
func (w *writer) publish(ctx context.Context, p *pending) {
	s := w.store
	failed := s.hooks.afterCommit != nil && !w.guard(s.hooks.afterCommit)
	switch {
	case s.follower != nil: // which publishes in its next round what is not published here
		w.guard(func() {
			if failed || p.tx.Mark == (database.Mark{}) {
				return // nothing was committed
			}
			if err := s.follower.publish(ctx, p); err != nil {
				w.logger.Warn("a commit is published later", "error", err)
			}
		})
	case failed || !w.guard(func() { s.publish(p) }):
		w.guard(func() { s.publishAgain(p) })
	}
}

// update is the transaction. A panic must not end the only writer: before the commit it
// becomes kv.ErrUnavailable, with nothing written, and after that point
// kv.ErrOutcomeUnknown.
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

// apply applies the requests in their order and saves what they append.
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

// guard calls fn after a transaction and reports whether fn returned. The answers are settled
// by then, so a panic is logged and changes none of them.
func (w *writer) guard(fn func()) (ended bool) {
	defer func() {
		if cause := recover(); cause != nil {
			w.logger.Error("panic after a transaction; it does not change the answers",
				"panic", cause, "stack", string(debug.Stack()))
		}
	}()
	fn()
	return true
}

// begin calls Observe.
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
		if kv.ClassOf(err) == kv.ClassRefused { // from a request that is alone
			t.Err = nil
		}
		if err == nil && p != nil {
			t.Versions = len(p.written)
		}
		end(t)
	}
}
