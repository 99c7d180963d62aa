package store

import (
	"context"
	"errors"

	"kvstore/backend/kv"
)

// updateAttempts is how often an update is tried beside other writes of its key. When
// these were faster each time, they wait for it once.
const updateAttempts = 4

// Update makes what fn gives for the latest version of c.Key the next version, in
// one step: no write of the key comes in between. However often the key is written,
// it is made. fn must not change the entry or write the key, may be called again when another
// write came first, and its error is returned as it is, with nothing written. Of c, Key,
// If, TTL and Author count. Errors besides are those of Write.
//
// Updates of one key take turns, so that they do not make each other's work vain. No other
// key waits for fn, but for those that share the lock of this one.
func (s *Store) Update(ctx context.Context, c Change, fn func(kv.Entry) (value []byte, contentType string, err error)) (kv.Written, error) {
	c.Operation = kv.OpPatch
	lock := s.locks.of(c.Key)
	leave, err := lock.enter(ctx)
	if err != nil {
		return kv.Written{}, err
	}
	defer leave()
	write := s.Write
	for attempt := 0; ; attempt++ {
		if attempt == updateAttempts {
			lock.writes.Lock()
			defer lock.writes.Unlock()
			write = s.write
		}
		entry, err := s.latest(ctx, c)
		if err != nil {
			return kv.Written{}, err
		}
		if c.Value, c.ContentType, err = fn(entry); err != nil {
			return kv.Written{}, err
		}
		c.Version = entry.Version
		written, err := write(ctx, c)
		if !errors.Is(err, kv.ErrPreconditionFailed) {
			return written, err
		}
	}
}

// latest returns the version to start from, or why the change cannot be made. A
// condition that does not hold goes before the key that does not exist.
func (s *Store) latest(ctx context.Context, c Change) (kv.Entry, error) {
	entry, _, err := s.Get(ctx, c.Key)
	current := entry.Version
	if errors.Is(err, kv.ErrVersionGone) { // it exists, and its value is destroyed
		return kv.Entry{}, err
	}
	if err == nil || errors.Is(err, kv.ErrKeyNotFound) || errors.Is(err, kv.ErrKeyDeleted) {
		if failed := c.If.Check(c.Key, current); failed != nil {
			return kv.Entry{}, failed
		}
	}
	return entry, err
}
