package store

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"kvstore/backend/kv"
)

const (
	// expiryInterval is the time between two searches for keys that have expired; a
	// tombstone is written within it and a commit.
	expiryInterval = 250 * time.Millisecond
	// expiryRetry is the time before another attempt when the database failed.
	expiryRetry = 5 * time.Second
	// expiryPage is how many keys one search finds.
	expiryPage = 128
)

// expiry is the goroutine that writes the tombstones of keys that have expired.
// Reads do not depend on it: they look at the time themselves.
type expiry struct {
	store  *Store
	logger *slog.Logger
	cancel context.CancelFunc
	ended  chan struct{}
}

func startExpiry(s *Store, logger *slog.Logger) *expiry {
	ctx, cancel := context.WithCancel(context.Background())
	e := &expiry{store: s, logger: logger, cancel: cancel, ended: make(chan struct{})}
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

// sweep ends every key that has expired, a page at a time. A key that somebody
// wrote meanwhile is left as it is.
func (e *expiry) sweep(ctx context.Context) error {
	for {
		keys, err := e.store.db.Expired(ctx, e.store.clock.now(), expiryPage)
		if err != nil {
			return err
		}
		if err := e.end(ctx, keys); err != nil || len(keys) < expiryPage {
			return err
		}
	}
}

func (e *expiry) end(ctx context.Context, keys []string) error {
	units := make([]*unit, 0, len(keys))
	for _, key := range keys {
		u := &unit{ctx: ctx, changes: []Change{{Operation: kv.OpExpire, Key: key}}, done: make(chan struct{})}
		if err := e.store.writer.enqueue(u); err != nil {
			return err
		}
		units = append(units, u)
	}
	var failures []error
	for _, u := range units {
		<-u.done
		if !isAnswer(u.err) {
			failures = append(failures, u.err)
		}
	}
	return errors.Join(failures...)
}
