package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

const (
	// followInterval is the time between two looks for commits of other backends, if nobody reads, and nobody
	// watches or no notification comes.
	followInterval = 50 * time.Millisecond
	// followTimeout bounds a round, after which its reads fail.
	followTimeout = 5 * time.Second
)

// A follower is the task that publishes the commits of other backends, on an engine that several
// of them share. Commits are published in their order, each whole, those of this backend among
// them.
//
// A read that must see what was answered before it began, by whichever backend, joins the next
// round. A round asks the engine for its last commit, after everybody has joined who waits for it,
// and publishes what is missing up to that. (The ReadIndex of Raft, section 6.4 of Ongaro's thesis.)
type follower struct {
	*task
	listener *task
	store    *Store
	logger   *slog.Logger
	woken    chan struct{}             // holds an element after a notification
	asked    atomic.Pointer[time.Time] // when the last round began that has succeeded
	failed   bool                      // the last round; only run uses it

	rounds, rewritten atomic.Uint64
	waiting           atomic.Int64 // reads
	applied           atomic.Int64 // the number of mark
	rewrittenAt       atomic.Pointer[time.Time]

	applying sync.Mutex // guards mark, and makes commits published one after the other
	mark     database.Mark

	mu     sync.Mutex // guards next
	next   *round
	joined chan struct{} // holds an element when next has been set
}

type round struct {
	done chan struct{} // closed when err is set
	err  error
}

// startFollower begins behind the commit that the log has reached.
func startFollower(s *Store, engine database.Shared, mark database.Mark) *follower {
	f := &follower{store: s, logger: s.logger, mark: mark, joined: make(chan struct{}, 1), woken: make(chan struct{}, 1)}
	f.applied.Store(mark.Seq)
	began := time.Now()
	f.asked.Store(&began)
	f.task = startTask(f.run)
	f.listener = startTask(func(ctx context.Context) { engine.Listen(ctx, f.notified) })
	return f
}

func (f *follower) close() {
	f.listener.close()
	f.task.close()
}

func (f *follower) run(ctx context.Context) {
	timer := time.NewTicker(followInterval)
	defer timer.Stop()
	for {
		select {
		case <-f.joined:
		case <-f.woken:
		case <-timer.C:
		case <-ctx.Done():
			f.end(f.take(), errClosed)
			return
		}
		r := f.take() // before the question, which so begins after all who have joined it
		err := f.catchUp(ctx)
		f.end(r, err)
		f.report(ctx, err)
	}
}

// notified begins a round for the watches, if there are any: a read begins its own. A backend without them so follows
// many commits at once.
func (f *follower) notified() {
	if f.store.watchers.any() {
		signal(f.woken)
	}
}

// report logs when rounds begin to fail, and when they work again.
func (f *follower) report(ctx context.Context, err error) {
	switch failed := err != nil; {
	case ctx.Err() != nil || failed == f.failed:
		return
	case failed:
		f.logger.Error("the last commit cannot be asked for: fresh reads fail until it can", "error", err)
	default:
		f.logger.Info("the last commit can be asked for again")
	}
	f.failed = !f.failed
}

func (f *follower) take() *round {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.next
	f.next = nil
	return r
}

func (*follower) end(r *round, err error) {
	if r != nil {
		r.err = err
		close(r.done)
	}
}

// confirm returns when every commit that was made before the call is published.
func (f *follower) confirm(ctx context.Context) error {
	f.waiting.Add(1)
	defer f.waiting.Add(-1)
	f.mu.Lock()
	r := f.next
	if r == nil {
		r = &round{done: make(chan struct{})}
		f.next = r
		signal(f.joined)
	}
	f.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	case <-f.ended:
		return errClosed
	}
}

// catchUp publishes up to the commit that is the last now.
func (f *follower) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	f.applying.Lock()
	seen := f.mark
	f.applying.Unlock()
	began := time.Now()
	f.rounds.Add(1)
	last, err := f.store.db.Last(ctx)
	if err != nil {
		return err
	}
	f.applying.Lock()
	defer f.applying.Unlock()
	if last.Seq < seen.Seq { // the question came after that commit
		err = database.ErrRewritten
	} else {
		err = f.followLocked(ctx, last)
	}
	if errors.Is(err, database.ErrRewritten) || errors.Is(err, database.ErrForgotten) {
		err = f.rejoinLocked(ctx, err)
	}
	if err != nil {
		return err
	}
	f.asked.Store(&began)
	return nil
}

// followLocked publishes up to a commit, unless that has been done.
func (f *follower) followLocked(ctx context.Context, last database.Mark) error {
	for f.mark.Seq < last.Seq {
		err := f.store.db.Follow(ctx, f.mark, func(c database.Followed) {
			f.store.publishFollowed(c)
			f.setMarkLocked(c.Mark)
		})
		if err != nil {
			return err
		}
	}
	if f.mark.Seq == last.Seq && f.mark != last {
		return database.ErrRewritten
	}
	return nil
}

func (f *follower) setMarkLocked(mark database.Mark) {
	f.mark = mark
	f.applied.Store(mark.Seq)
}

// rejoinLocked begins anew behind the last commit, because it is not known what came in between, or
// because the engine has lost commits that were published here.
func (f *follower) rejoinLocked(ctx context.Context, cause error) error {
	s := f.store
	rewritten := errors.Is(cause, database.ErrRewritten)
	if rewritten {
		if err := s.db.Rejoin(ctx, s.log.reached()); err != nil {
			return fmt.Errorf("%w: %w", cause, err)
		}
	}
	totals, mark, err := s.db.Begin(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", cause, err)
	}
	f.logger.Error("the cache is emptied, and watches end or resume", "cause", cause, "seen", f.mark.Seq,
		"last", mark.Seq, "revision", totals.Revision)
	f.setMarkLocked(mark)
	s.restart(totals, rewritten)
	if now := time.Now(); rewritten {
		f.rewritten.Add(1)
		f.rewrittenAt.Store(&now)
	}
	return nil
}

// publish publishes a transaction of this backend, and before it those of others. If these
// cannot be read now the next round does all: no read is answered before that.
func (f *follower) publish(ctx context.Context, p *pending) error {
	f.applying.Lock()
	defer f.applying.Unlock()
	if f.mark != p.tx.Before {
		ctx, cancel := context.WithTimeout(ctx, followTimeout)
		defer cancel()
		return f.followLocked(ctx, p.tx.Mark)
	}
	f.store.publish(p)
	f.setMarkLocked(p.tx.Mark)
	return nil
}

type known struct{}

// Known returns a context with which reads are answered from what the store knows already, and counts
// them with that age. Without it each read sees every write that was answered before it began.
func (s *Store) Known(ctx context.Context, age time.Duration) context.Context {
	if s.follower == nil {
		return ctx
	}
	s.counters.stale.Add(1)
	s.counters.staleAge.Add(uint64(age.Microseconds()))
	return context.WithValue(ctx, known{}, true)
}

// Age returns for how long the store has not made sure that it knows every write. It is 0 unless other
// backends share the database.
func (s *Store) Age() time.Duration {
	if s.follower == nil {
		return 0
	}
	return time.Since(*s.follower.asked.Load())
}

// fresh returns when reads see every write that was answered before the call, or at once with a
// context of Known.
func (s *Store) fresh(ctx context.Context) error {
	if s.follower == nil { // the writer publishes before it answers
		return nil
	}
	if ctx.Value(known{}) != nil {
		return nil
	}
	return s.follower.confirm(ctx)
}

// awaitRevision returns when the log has reached a revision that the database has.
func (s *Store) awaitRevision(ctx context.Context, revision int64) error {
	for s.follower != nil && s.log.reached() < revision {
		if err := s.follower.confirm(ctx); err != nil {
			return err
		}
	}
	return s.log.await(ctx, revision)
}

// publishFollowed is publish for a commit that this backend has not made, or whose publish has failed.
func (s *Store) publishFollowed(c database.Followed) {
	if c.Totals.Restored > s.restored.Load() { // another backend has rejoined
		s.restart(c.Totals, false)
		return
	}
	written := eventsOf(c)
	for _, loss := range c.Losses {
		s.log.erase(newErasure(loss.Key, loss.Versions))
		s.pages.forget()
	}
	publish := func() {
		if c.Damaged {
			s.cache.Purge()
		}
		for _, e := range written {
			switch {
			case e.Key == "":
			case e.Operation.Tombstone(), e.Destroyed:
				s.cache.Remove(e.Key)
			default:
				s.cache.Put(e.Key, e)
			}
		}
		for _, loss := range c.Losses {
			s.cache.Remove(loss.Key)
		}
	}
	if c.Before < s.log.reached() {
		publish()
		return
	}
	s.log.append(written, c.Totals.Revision, func() {
		s.watchers.markLocked(written)
		publish()
	})
}

// eventsOf returns an event for each revision of a commit. What is not there any more of it is an event
// without a key, as one of an erased key is.
func eventsOf(c database.Followed) []kv.Entry {
	events := make([]kv.Entry, c.Totals.Revision-c.Before)
	for i := range events {
		events[i].Revision = c.Before + 1 + int64(i)
	}
	for _, e := range c.Entries {
		events[e.Revision-c.Before-1] = e
	}
	for _, loss := range c.Losses {
		if end := loss.End; end != nil {
			events[end.Revision-c.Before-1] = kv.Entry{Key: loss.Key, Version: end.Version, Revision: end.Revision,
				Time: kv.Timestamp(end.Time), Operation: kv.OpDestroy, Author: end.Author}
		}
	}
	return events
}

// restart begins the log anew behind the revision of totals. If lost, what was published may not have
// happened, and the watches end.
func (s *Store) restart(totals kv.Totals, lost bool) {
	s.pages.forget()
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	s.restored.Store(totals.Restored)
	s.cache.Purge()
	s.watchers.restartLocked(l.head, totals.Revision, lost)
	l.emptyLocked(totals.Revision)
	l.movedLocked()
}
