package store

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

const (
	// expiryInterval is the time between two searches for keys that have expired. A
	// tombstone is written within it and the time of a commit.
	expiryInterval = 250 * time.Millisecond
	// janitorRetry is the least time before another attempt after the database failed.
	janitorRetry = 5 * time.Second
	// defaultSweepInterval is the time between two searches of the whole store for versions
	// that retention removes. After a search that took long it is sweepPause times as long
	// as the search.
	defaultSweepInterval = time.Minute
	sweepPause           = 20
	// janitorKeys and janitorRows bound how many keys one transaction ends or prunes and how
	// many versions it deletes. Other writes wait about five milliseconds for that.
	janitorKeys = 256
	janitorRows = 1024
	// leaseLength is for how long a backend that has ended keeps the janitors of others from their
	// work. They ask for the lease every leaseInterval.
	leaseLength   = 6 * time.Second
	leaseInterval = 2 * time.Second
	// keptCommits is for how long a backend may be away until it must begin anew. For so long a shared
	// engine keeps the names of erased keys.
	keptCommits    = 5 * time.Minute
	forgetInterval = 10 * time.Second
)

// janitor is the task that writes the tombstones of expired keys and deletes what retention
// removes, except for the versions that each write deletes itself. Reads do not depend on
// it. A transaction has many keys. Keys that fail are tried again later. Of backends that share an
// engine the one that holds the lease does it. That only saves work, since each transaction decides
// what it changes.
type janitor struct {
	*task
	store   *Store
	logger  *slog.Logger
	backoff *backoff
	engine  database.Shared // nil unless other backends share it
	leads   atomic.Bool     // this backend holds the lease, or has no others beside it
	asked   time.Time       // when it was asked for

	now         func() time.Time
	maxVersions int64
	maxAge      time.Duration
	interval    time.Duration // between two searches
	searched    int64         // the row of the last key that the current search has seen
	searching   time.Duration // how long the current search has taken
}

func startJanitor(s *Store, cfg Config) *janitor {
	j := &janitor{
		store: s, logger: cfg.Logger, backoff: &backoff{map[string]delay{}},
		now: cfg.Now, maxVersions: int64(cfg.MaxVersions), maxAge: cfg.MaxVersionAge, interval: cfg.SweepInterval,
	}
	if j.interval == 0 {
		j.interval = defaultSweepInterval
	}
	j.engine, _ = s.db.Shared()
	j.leads.Store(j.engine == nil)
	j.task = startTask(j.run)
	return j
}

func (j *janitor) run(ctx context.Context) {
	expiry, search, forget := time.NewTimer(0), time.NewTimer(0), time.NewTimer(forgetInterval)
	defer expiry.Stop()
	defer search.Stop()
	defer forget.Stop()
	if j.maxVersions == 0 && j.maxAge == 0 {
		search.Stop()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-forget.C:
			err := j.forget(ctx)
			forget.Reset(j.report(ctx, "old commits could not be forgotten; it is tried again", forgetInterval, err))
		case <-expiry.C:
			err := j.endExpired(ctx)
			expiry.Reset(j.report(ctx, "expired keys could not be ended; they are tried again", expiryInterval, err))
		case <-search.C:
			next, err := j.search(ctx)
			search.Reset(j.report(ctx, "retention failed; it is tried again", next, err))
		}
	}
}

// lead reports whether the janitor of this backend is to work.
func (j *janitor) lead(ctx context.Context) bool {
	if j.engine == nil {
		return true
	}
	if now := time.Now(); now.Sub(j.asked) >= leaseInterval {
		j.asked = now
		held, err := j.engine.Lease(ctx, leaseLength)
		j.leads.Store(held && err == nil)
	}
	return j.leads.Load()
}

// forget deletes commits that every backend has followed.
func (j *janitor) forget(ctx context.Context) error {
	if j.engine == nil || !j.lead(ctx) {
		return nil
	}
	return j.engine.Forget(ctx, keptCommits)
}

// report logs a failure and returns when to go on.
func (j *janitor) report(ctx context.Context, what string, next time.Duration, err error) time.Duration {
	if err == nil {
		return next
	}
	if ctx.Err() == nil {
		j.logger.Error(what, "error", err)
	}
	return max(next, janitorRetry)
}

// endExpired ends every key that has expired. A key that was written meanwhile is left as it
// is.
func (j *janitor) endExpired(ctx context.Context) error {
	if !j.lead(ctx) {
		return nil
	}
	if err := j.store.fresh(ctx); err != nil {
		return err
	}
	defer j.backoff.clean()
	var last database.Expired
	for {
		found, err := j.store.db.Expired(ctx, j.store.clock.now(), last, janitorKeys)
		if err != nil {
			return err
		}
		keys := make([]string, 0, len(found))
		for _, last = range found {
			keys = append(keys, last.Key)
		}
		if err := j.each(ctx, keys, j.end); err != nil || len(found) < janitorKeys {
			return err
		}
	}
}

// search prunes the next keys with versions that retention removes, and returns when to go on.
func (j *janitor) search(ctx context.Context) (next time.Duration, err error) {
	if !j.lead(ctx) {
		return min(j.interval, leaseInterval), nil
	}
	began := time.Now()
	found, last, err := j.store.db.Prunables(ctx, j.rule(), j.searched)
	j.searching += time.Since(began)
	if err != nil {
		return 0, err
	}
	if len(found) > 0 {
		if err := j.each(ctx, found, j.prune); err != nil {
			return 0, err
		}
	}
	if j.searched = last; last > 0 {
		return 0, nil
	}
	next, j.searching = max(j.interval, sweepPause*j.searching), 0
	return next, nil
}

func (j *janitor) rule() database.Retention {
	rule := database.Retention{MaxVersions: j.maxVersions}
	if j.maxAge > 0 {
		rule.Before = kv.NewTimestamp(j.now().Add(-j.maxAge))
	}
	return rule
}

// prune deletes what retention removes of those keys, in transactions of janitorRows versions.
// After each it yields the writer for as long as the transaction took.
func (j *janitor) prune(ctx context.Context, keys []string) (failed map[string]error, err error) {
	failed = map[string]error{}
	for len(keys) > 0 {
		began, some := time.Now(), keys[:min(len(keys), janitorKeys)]
		pruned, err := j.store.db.Prune(ctx, some, j.rule(), janitorRows)
		if err != nil {
			return nil, err
		}
		j.store.counters.pruned.Add(uint64(pruned.Versions))
		for key, cause := range pruned.Failed {
			failed[key] = cause
		}
		if keys = keys[len(some)-len(pruned.Left):]; len(keys) > 0 {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Since(began)):
			}
		}
	}
	return failed, nil
}

// each calls do with the keys that need not wait, and with each alone when that fails. Those
// that fail must wait. The error is one that concerns all keys.
func (j *janitor) each(
	ctx context.Context, keys []string, do func(context.Context, []string) (map[string]error, error),
) error {
	ready := make([]string, 0, len(keys))
	for _, key := range keys {
		if !j.backoff.waits(key) {
			ready = append(ready, key)
		}
	}
	if len(ready) == 0 {
		return nil
	}
	failed, err := do(ctx, ready)
	switch {
	case err == nil:
	case kv.ClassOf(err) == kv.ClassDisk || errors.Is(err, errClosed) || ctx.Err() != nil:
		return err
	case len(ready) == 1:
		failed = map[string]error{ready[0]: err}
	default:
		for i := range ready {
			if err := j.each(ctx, ready[i:i+1], do); err != nil {
				return err
			}
		}
		return nil
	}
	for _, key := range ready {
		if cause := failed[key]; cause != nil {
			after := j.backoff.failed(key)
			j.logger.Error("a key could not be ended or pruned; it is tried again later", "error", cause, "after", after)
		} else {
			j.backoff.succeeded(key)
		}
	}
	return nil
}

// end appends the tombstones of those keys that have expired, in one transaction. failed holds
// the errors of damaged keys.
func (j *janitor) end(ctx context.Context, keys []string) (failed map[string]error, err error) {
	failed = map[string]error{}
	err = j.store.writer.queue.await(aloneRequest(ctx, func(p *pending) error {
		for _, key := range keys {
			switch head, err := p.tx.Head(key); {
			case err != nil:
				failed[key] = err
			case head.Expired(p.now):
				p.append(kv.Entry{Key: key, Operation: kv.OpExpire})
			}
		}
		return nil
	}, keys...))
	if err != nil { // the writer may still be using failed
		return nil, err
	}
	return failed, nil
}

const (
	firstDelay   = 5 * time.Second
	longestDelay = 10 * time.Minute
)

// A backoff holds the keys that a task failed on. Each waits before it is tried again, twice as
// long each time, so that it does not delay the others. It is used by one goroutine.
type backoff struct{ keys map[string]delay }

type delay struct {
	until time.Time
	of    time.Duration
}

// waits reports whether the key waits.
func (b *backoff) waits(key string) bool { return time.Now().Before(b.keys[key].until) }

// failed lets the key wait, and returns how long.
func (b *backoff) failed(key string) time.Duration {
	of := min(max(firstDelay, 2*b.keys[key].of), longestDelay)
	b.keys[key] = delay{time.Now().Add(of), of}
	return of
}

// succeeded forgets the key.
func (b *backoff) succeeded(key string) { delete(b.keys, key) }

// clean forgets keys that nobody tries any more: they were ready for as long as they had
// waited.
func (b *backoff) clean() {
	for key, d := range b.keys {
		if time.Since(d.until) > d.of {
			delete(b.keys, key)
		}
	}
}
