package store

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"

	"kvstore/backend/kv"
)

// A Change is one write that a caller wants.
type Change struct {
	// Operation is kv.OpPut, kv.OpPatch, kv.OpRevert or kv.OpDelete.
	Operation kv.Operation
	Key       string
	// Value and ContentType are the value of a put, or the result of a patch.
	Value       []byte
	ContentType string
	// TTL is how long the key exists after this write; 0 means forever, or for a patch
	// until the time that was set before.
	TTL time.Duration
	// Version is the version to revert to; 0 means the last value before the tombstone
	// of a deleted key. For a patch it is the version that was patched, which must
	// still be the latest and not destroyed.
	Version int64
	// If is the condition without which nothing is written.
	If kv.Condition
	// Author is the name of the writer, "" when it is not known.
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

// owned returns the change with copies of all that the store keeps of it. The caller's
// strings may be parts of a whole request, which they would keep in memory.
func (c Change) owned() Change {
	c.Key, c.Value = strings.Clone(c.Key), bytes.Clone(c.Value)
	c.ContentType, c.Author = strings.Clone(c.ContentType), strings.Clone(c.Author)
	return c
}

// Write makes one change. When it returns nil, the new version is on disk.
//
// Nothing was written with kv.ErrInvalidKey, kv.ErrValueTooLarge, kv.ErrPreconditionFailed,
// kv.ErrKeyNotFound or kv.ErrKeyDeleted (there is nothing to delete, patch or
// revert to), kv.ErrVersionNotFound, kv.ErrVersionGone, kv.ErrVersionRequired,
// kv.ErrOverloaded, kv.ErrStorageFull, kv.ErrDiskFailed and kv.ErrUnavailable. The outcome is
// unknown with kv.ErrOutcomeUnknown, and with the error of ctx when the caller stopped waiting.
func (s *Store) Write(ctx context.Context, c Change) (kv.Written, error) {
	lock := s.locks.of(c.Key)
	lock.writes.RLock()
	defer lock.writes.RUnlock()
	return s.write(ctx, c)
}

// write is Write for a caller that holds the lock of the key.
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

// updateAttempts is how often Update is tried beside other writes of its key. After
// that many it holds them off once.
const updateAttempts = 4

// Update calls fn with the latest version of c.Key and makes what it returns the next
// version. No write of the key comes in between, and however often the key is written, the
// update is made. fn must not change the entry or write the key. It may be called again
// when another write came first. Its error is returned as it is, with nothing written. Of c,
// Update uses Key, If, TTL and Author. The other errors are those of Write.
//
// Only one update of a key runs at a time, since a second one would be in vain. An update
// holds up no other key, except those that share the lock of its key.
func (s *Store) Update(
	ctx context.Context, c Change, fn func(kv.Entry) (value []byte, contentType string, err error),
) (kv.Written, error) {
	c.Operation = kv.OpPatch
	lock := s.locks.of(c.Key)
	unlock, err := lock.lockUpdate(ctx)
	if err != nil {
		return kv.Written{}, err
	}
	defer unlock()
	write := s.Write
	for attempt := 0; ; attempt++ {
		if attempt == updateAttempts {
			lock.writes.Lock()
			defer lock.writes.Unlock()
			write = s.write
		}
		entry, err := s.updatable(ctx, c)
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

// updatable returns the latest version of c.Key, or why the change cannot be made. A failed
// condition comes before a key that does not exist.
func (s *Store) updatable(ctx context.Context, c Change) (kv.Entry, error) {
	entry, _, err := s.Get(ctx, c.Key)
	if err == nil || errors.Is(err, kv.ErrKeyNotFound) || errors.Is(err, kv.ErrKeyDeleted) {
		if failed := c.If.Check(c.Key, entry.Version); failed != nil {
			return kv.Entry{}, failed
		}
	}
	return entry, err
}
