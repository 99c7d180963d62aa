package store

import (
	"bytes"
	"context"
	"errors"
	"hash/maphash"
	"strings"

	"kvstore/backend/kv"
)

// updateAttempts is how often an update is tried beside the writer. When puts of the
// same key were faster each time, the writer itself calls its function.
const updateAttempts = 4

// An updateFunc makes the next value of the latest version.
type updateFunc = func(kv.Entry) (value []byte, contentType string, err error)

// Update makes what fn gives for the latest version of c.Key the next version, in
// one step: no write of the key comes in between. However often the key is written,
// it is made. fn must not change the entry, may be called again when another write
// came first, and its error is returned as it is, with nothing written. Of c, Key, If,
// TTL and Author count. Errors besides are those of Write.
//
// Updates of one key take turns, so that they do not make each other's work vain.
func (s *Store) Update(ctx context.Context, c Change, fn updateFunc) (kv.Written, error) {
	c.Operation = kv.OpPatch
	leave, err := s.turns.enter(ctx, c.Key)
	if err != nil {
		return kv.Written{}, err
	}
	defer leave()
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
	c.Value, c.make = nil, fn
	written, err := s.Write(ctx, c)
	var refused *refusal
	if errors.As(err, &refused) {
		err = refused.cause
	}
	return written, err
}

// A refusal is the error of an update's function, which the writer answers with and
// does not take for a failure of the database.
type refusal struct{ cause error }

func (r *refusal) Error() string { return r.cause.Error() }

// patched returns what the change puts in the place of the latest version: what it
// brings, or what its function makes in the transaction.
func (s *stage) patched(c Change) (value []byte, contentType string, err error) {
	if c.make == nil {
		return c.Value, c.ContentType, s.patchable(c)
	}
	if err := s.exists(c.Key); err != nil {
		return nil, "", err
	}
	entry, err := s.entry(c.Key, s.heads[c.Key].Version)
	if err == nil {
		err = entry.Readable()
	}
	if err != nil {
		return nil, "", err
	}
	if value, contentType, err = c.make(entry); err != nil {
		return nil, "", &refusal{err}
	}
	if int64(len(value)) > s.maxValueBytes {
		return nil, "", kv.ValueTooLarge(s.maxValueBytes)
	}
	return bytes.Clone(value), strings.Clone(contentType), nil // see Change.owned
}

// turns let the updates of a key come one after the other. Keys share them by hash.
type turns struct {
	seed  maphash.Seed
	slots [256]chan struct{}
}

func newTurns() *turns {
	t := &turns{seed: maphash.MakeSeed()}
	for i := range t.slots {
		t.slots[i] = make(chan struct{}, 1)
	}
	return t
}

// enter waits for the turn of a key, or for the end of ctx.
func (t *turns) enter(ctx context.Context, key string) (leave func(), err error) {
	slot := t.slots[maphash.String(t.seed, key)%uint64(len(t.slots))]
	select {
	case slot <- struct{}{}:
		return func() { <-slot }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
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
