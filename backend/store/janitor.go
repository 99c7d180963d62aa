package store

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

const (
	// expiryInterval is the time between two searches for keys that have expired; a
	// tombstone is written within it and a commit.
	expiryInterval = 250 * time.Millisecond
	// expiryRetry is the time before another attempt when the database failed.
	expiryRetry = 5 * time.Second
	// defaultSweepInterval is the time between two searches of the whole store for what
	// retention may take. It is longer when a search takes long: sweepRest times as long.
	defaultSweepInterval = time.Minute
	sweepRest            = 20
	// janitorKeys is how many keys one transaction ends or prunes, and janitorRows how many
	// versions it deletes: about five milliseconds, for which other writes wait.
	janitorKeys = 256
	janitorRows = 1024
)

// janitor is the task that does what nobody asks for: it writes the tombstones of keys
// that have expired, and deletes what retention takes, but for the versions that each
// write deletes itself. Reads do not depend on it. It does many keys in a transaction, and
// those that fail are set aside.
type janitor struct {
	*task
	store  *Store
	logger *slog.Logger
	aside  *aside

	now         func() time.Time
	maxVersions int64
	maxAge      time.Duration
	interval    time.Duration // between two searches, 0 when everything is kept
	searched    int64         // up to this row of a key
	searching   time.Duration // how long the present search has taken
}

func startJanitor(s *Store, cfg Config) *janitor {
	j := &janitor{
		store: s, logger: cfg.Logger, aside: newAside(),
		now: cfg.Now, maxVersions: int64(cfg.MaxVersions), maxAge: cfg.MaxVersionAge, interval: cfg.SweepInterval,
	}
	if j.interval == 0 {
		j.interval = defaultSweepInterval
	}
	j.task = startTask(j.run)
	return j
}

func (j *janitor) run(ctx context.Context) {
	expiry, search := time.NewTimer(0), time.NewTimer(0)
	defer expiry.Stop()
	defer search.Stop()
	if j.maxVersions == 0 && j.maxAge == 0 {
		search.Stop()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-expiry.C:
			expiry.Reset(j.report(ctx, "expired keys could not be ended; they are tried again", expiryInterval, j.endExpired(ctx)))
		case <-search.C:
			next, err := j.search(ctx)
			search.Reset(j.report(ctx, "retention failed; it is tried again", next, err))
		}
	}
}

// report logs a failure, and returns when to go on.
func (j *janitor) report(ctx context.Context, what string, next time.Duration, err error) time.Duration {
	if err == nil {
		return next
	}
	if ctx.Err() == nil {
		j.logger.Error(what, "error", err)
	}
	return max(next, expiryRetry)
}

// endExpired ends every key that has expired, but for those that are set aside. A key that
// somebody wrote meanwhile is left as it is.
func (j *janitor) endExpired(ctx context.Context) error {
	defer j.aside.forget()
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
		if err := j.each(ctx, keys, j.store.endExpired); err != nil || len(found) < janitorKeys {
			return err
		}
	}
}

// search prunes the next keys that have versions which may go, and returns when to go on.
// Between two transactions it leaves the writer to others for as long as the last one took.
func (j *janitor) search(ctx context.Context) (next time.Duration, err error) {
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
	next, j.searching = max(j.interval, sweepRest*j.searching), 0
	return next, nil
}

func (j *janitor) rule() database.Retention {
	rule := database.Retention{MaxVersions: j.maxVersions}
	if j.maxAge > 0 {
		rule.Before = kv.NewTimestamp(j.now().Add(-j.maxAge))
	}
	return rule
}

// prune deletes what may go of those keys, in transactions of janitorRows versions.
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

// each does something to keys together, or to each alone when one of them fails. It sets
// those aside with which it failed. An error is that of the database as a whole.
func (j *janitor) each(ctx context.Context, keys []string, do func(context.Context, []string) (map[string]error, error)) error {
	ready := make([]string, 0, len(keys))
	for _, key := range keys {
		if !j.aside.has(key) {
			ready = append(ready, key)
		}
	}
	if len(ready) == 0 {
		return nil
	}
	failed, err := do(ctx, ready)
	switch {
	case err == nil:
	case ofStore(err) || ctx.Err() != nil:
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
			j.logger.Error("a key could not be ended or pruned; it is tried again later", "error", cause, "after", j.aside.add(key))
		} else {
			j.aside.remove(key)
		}
	}
	return nil
}

// ofStore tells what stops every write from what is wrong with one key.
func ofStore(err error) bool {
	return kv.ClassOf(err) == kv.ClassDisk || errors.Is(err, errClosed) || errors.Is(err, context.Canceled)
}

// endExpired appends the tombstones of those of keys that have expired, in one
// transaction, and returns why some of them could not be.
func (s *Store) endExpired(ctx context.Context, keys []string) (failed map[string]error, err error) {
	failed = map[string]error{}
	err = s.writer.queue.await(aloneRequest(ctx, func(p *pending) error {
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
	if err != nil { // the writer may not be done with failed
		return nil, err
	}
	return failed, nil
}

const (
	firstPause   = 5 * time.Second
	longestPause = 10 * time.Minute
)

// aside has the keys with which a task of the store failed. Each waits before it is
// tried again, twice as long each time, so that it does not hold up the others. It is used by
// one goroutine.
type aside struct{ keys map[string]pause }

type pause struct {
	until time.Time
	of    time.Duration
}

func newAside() *aside { return &aside{keys: map[string]pause{}} }

// has reports whether the key waits.
func (a *aside) has(key string) bool { return time.Now().Before(a.keys[key].until) }

// add lets the key wait, and returns how long.
func (a *aside) add(key string) time.Duration {
	of := min(max(firstPause, 2*a.keys[key].of), longestPause)
	a.keys[key] = pause{time.Now().Add(of), of}
	return of
}

// remove is for a key that has not failed.
func (a *aside) remove(key string) { delete(a.keys, key) }

// forget removes keys that are not tried any more: those that could have been for as long
// as they had waited.
func (a *aside) forget() {
	for key, p := range a.keys {
		if time.Since(p.until) > p.of {
			delete(a.keys, key)
		}
	}
}
