package store

import (
	"bytes"
	"context"
	"strings"
	"time"

	"kvstore/backend/kv"
)

// A Change is one write that a caller wants.
type Change struct {
	// Operation is kv.OpPut, kv.OpPatch, kv.OpRevert or kv.OpDelete.
	Operation kv.Operation
	Key       string
	// Value and ContentType are what is put or what a patch gave.
	Value       []byte
	ContentType string
	// TTL is how long the key exists after this write; 0 means for ever, or for a patch
	// until the time that was set before.
	TTL time.Duration
	// Version is the one to go back to; 0 means the last value before the tombstone
	// of a deleted key. For a patch it is the version that was patched, which must
	// still be the latest and not destroyed.
	Version int64
	// If is what must hold, else nothing is written.
	If kv.Condition
	// Author is the name of who writes; "" when that is not known.
	Author string
}

// check returns why a change can never be made.
func (s *Store) check(c Change) error {
	if err := kv.CheckKey(c.Key); err != nil {
		return err
	}
	if int64(len(c.Value)) > s.maxValueBytes {
		return kv.ValueTooLarge(s.maxValueBytes)
	}
	return nil
}

// owned returns the change with copies of all that the store keeps of it. What a caller
// brings may be a part of a whole request, which would stay in memory with it.
func (c Change) owned() Change {
	c.Key, c.Value = strings.Clone(c.Key), bytes.Clone(c.Value)
	c.ContentType, c.Author = strings.Clone(c.ContentType), strings.Clone(c.Author)
	return c
}

// Write makes one change. When it returns nil, the new version is on disk.
//
// Errors: kv.ErrInvalidKey, kv.ErrValueTooLarge, kv.ErrPreconditionFailed,
// kv.ErrKeyNotFound and kv.ErrKeyDeleted (there is nothing to delete, patch or go
// back to), kv.ErrVersionNotFound, kv.ErrVersionGone, kv.ErrVersionRequired,
// kv.ErrOverloaded, kv.ErrStorageFull, kv.ErrUnavailable (in all of these nothing was written), or
// that of ctx, when the caller stopped waiting and the outcome is unknown.
func (s *Store) Write(ctx context.Context, c Change) (kv.Written, error) {
	lock := s.locks.of(c.Key)
	lock.writes.RLock()
	defer lock.writes.RUnlock()
	return s.write(ctx, c)
}

// write is Write for who has the lock of the key.
func (s *Store) write(ctx context.Context, c Change) (kv.Written, error) {
	if err := s.check(c); err != nil {
		return kv.Written{}, err
	}
	r := &request{ctx: ctx, changes: []Change{c.owned()}, done: make(chan struct{})}
	if err := s.writer.queue.submit(r); err != nil {
		return kv.Written{}, err
	}
	return r.results[0].Written, nil
}
