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
	// expiryPage is how many keys one search finds and one transaction ends: about four
	// milliseconds, for which other writes wait.
	expiryPage = 256
)

// expiry is the goroutine that writes the tombstones of keys that have expired.
// Reads do not depend on it: they look at the time themselves.
type expiry struct {
	store  *Store
	logger *slog.Logger
	cancel context.CancelFunc
	ended  chan struct{}
	aside  *aside // keys that could not be ended
}

func startExpiry(s *Store, logger *slog.Logger) *expiry {
	ctx, cancel := context.WithCancel(context.Background())
	e := &expiry{store: s, logger: logger, cancel: cancel, ended: make(chan struct{}), aside: newAside()}
	go e.run(ctx)
	return e
}

func (e *expiry) close() {
	e.cancel()
	<-e.ended
}

func (e *expiry) run(ctx context.Context) {
	defer close(e.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		next := expiryInterval
		if err := e.sweep(ctx); err != nil && ctx.Err() == nil {
			e.logger.Error("expired keys could not be ended; they are tried again", "error", err)
			next = expiryRetry
		}
		timer.Reset(next)
	}
}

// sweep ends every key that has expired, a page at a time, but for those that are set
// aside. A key that somebody wrote meanwhile is left as it is. An error is that of the
// database as a whole.
func (e *expiry) sweep(ctx context.Context) error {
	var last database.Expired
	for {
		found, err := e.store.db.Expired(ctx, e.store.clock.now(), last, expiryPage)
		if err != nil {
			return err
		}
		keys := make([]string, 0, len(found))
		for _, last = range found {
			if !e.aside.has(last.Key) {
				keys = append(keys, last.Key)
			}
		}
		if err := e.endAll(ctx, keys); err != nil || len(found) < expiryPage {
			e.aside.forget()
			return err
		}
	}
}

// endAll ends keys in one transaction, or each in its own when one of them fails, and sets
// that one aside.
func (e *expiry) endAll(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	failed, err := e.store.endExpired(ctx, keys)
	if err != nil && len(keys) > 1 && !ofStore(err) && ctx.Err() == nil {
		for i := range keys {
			if err := e.endAll(ctx, keys[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	if err != nil && len(keys) == 1 && !ofStore(err) {
		failed, err = map[string]error{keys[0]: err}, nil
	}
	for _, key := range keys {
		if cause := failed[key]; cause != nil {
			pause := e.aside.add(key)
			e.logger.Error("an expired key could not be ended; it is tried again later", "error", cause, "after", pause)
		} else if err == nil {
			e.aside.remove(key)
		}
	}
	return err
}

// ofStore tells what stops every write from what is wrong with one key.
func ofStore(err error) bool {
	return ofDisk(err) || errors.Is(err, kv.ErrStorageFull) || errors.Is(err, errClosed) || errors.Is(err, context.Canceled)
}

// endExpired appends the tombstones of those of keys that have expired, in one
// transaction, and returns why some of them could not be.
func (s *Store) endExpired(ctx context.Context, keys []string) (failed map[string]error, err error) {
	failed = map[string]error{}
	err = s.goOnAlone(ctx, keys, func(st *stage) error {
		for _, key := range keys {
			switch {
			case st.failed[key] != nil:
				failed[key] = st.failed[key]
			case st.heads[key].Expired(st.now):
				st.append(kv.Entry{Key: key, Operation: kv.OpExpire})
			}
		}
		return st.save()
	})
	if err != nil { // the writer may not be done with failed
		return nil, err
	}
	return failed, nil
}
