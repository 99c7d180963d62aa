package store

import (
	"context"
	"errors"

	"kvstore/backend/kv"
)

// updateAttempts bounds how often an update is tried while others write the same
// key. In each round some write is made, so it ends long before under any load.
const updateAttempts = 100

// Update makes what fn gives for the latest version of c.Key the next version, in
// one step: no write of the key comes in between. fn must not change the entry, may
// be called again when another write came first, and its error is returned as it
// is, with nothing written. Of c, Key, If, TTL and Author count.
//
// Errors besides: those of Write, and kv.ErrUnavailable when the key is written so
// often that no attempt was in time.
func (s *Store) Update(ctx context.Context, c Change, fn func(kv.Entry) (value []byte, contentType string, err error)) (kv.Written, error) {
	c.Operation = kv.OpPatch
	for range updateAttempts {
		entry, err := s.latest(ctx, c)
		if err != nil {
			return kv.Written{}, err
		}
		if c.Value, c.ContentType, err = fn(entry); err != nil {
			return kv.Written{}, err
		}
		c.Version = entry.Version
		written, err := s.Write(ctx, c)
		if !errors.Is(err, kv.ErrPreconditionFailed) {
			return written, err
		}
	}
	return kv.Written{}, &kv.Error{Kind: kv.ErrUnavailable, Detail: "The key is written too often to be patched now"}
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
