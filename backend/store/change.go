package store

import (
	"context"
	"fmt"
	"time"

	"kvstore/backend/kv"
)

// A Change is one write that a caller wants.
type Change struct {
	// Operation is kv.OpPut, kv.OpPatch, kv.OpRevert or kv.OpDelete.
	Operation kv.Operation
	Key       string
	// Value and ContentType are what is put or what a patch gave. The bytes must not
	// change afterwards.
	Value       []byte
	ContentType string
	// TTL is how long the key exists after this write; 0 means for ever.
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

// Write makes one change. When it returns nil, the new version is on disk.
//
// Errors: kv.ErrInvalidKey, kv.ErrValueTooLarge, kv.ErrPreconditionFailed,
// kv.ErrKeyNotFound and kv.ErrKeyDeleted (there is nothing to delete, patch or go
// back to), kv.ErrVersionNotFound, kv.ErrVersionGone, kv.ErrVersionRequired,
// kv.ErrStorageFull, kv.ErrUnavailable (in all of these nothing was written), or
// that of ctx, when the caller stopped waiting and the outcome is unknown.
func (s *Store) Write(ctx context.Context, c Change) (kv.Written, error) {
	if err := s.check(c); err != nil {
		return kv.Written{}, err
	}
	u := &unit{ctx: ctx, changes: []Change{c}, done: make(chan struct{})}
	if err := s.writer.submit(u); err != nil {
		return kv.Written{}, err
	}
	return u.results[0].Written, nil
}

// A Requirement is a condition of a batch.
type Requirement struct {
	Key string
	If  kv.Condition
}

// OpGet in a batch reads a key as it is at that point of the batch.
const OpGet kv.Operation = "get"

// A Result is what one operation of a batch did.
type Result struct {
	// Written is what a write did.
	Written kv.Written
	// Entry is what OpGet read, and Err why it read nothing: kv.ErrKeyNotFound,
	// kv.ErrKeyDeleted or kv.ErrVersionGone.
	Entry kv.Entry
	Err   error
}

// An OperationError says which operation of a batch could not be made.
type OperationError struct {
	Index int
	Err   error
}

func (e *OperationError) Error() string { return fmt.Sprintf("operations[%d]: %v", e.Index, e.Err) }

// Unwrap returns the cause.
func (e *OperationError) Unwrap() error { return e.Err }

// Batch makes all changes in one transaction, in their order, or none of them. The
// requirements are those of the state before the first change. OpGet is allowed
// too. A requirement that does not hold is a *kv.PreconditionError with its index;
// a change that cannot be made is an *OperationError with one of the errors of
// Write.
func (s *Store) Batch(ctx context.Context, requirements []Requirement, changes []Change) ([]Result, error) {
	for _, r := range requirements {
		if err := kv.CheckKey(r.Key); err != nil {
			return nil, err
		}
	}
	for i, c := range changes {
		if err := s.check(c); err != nil {
			return nil, &OperationError{i, err}
		}
	}
	u := &unit{ctx: ctx, requirements: requirements, changes: changes, batch: true, done: make(chan struct{})}
	if err := s.writer.submit(u); err != nil {
		return nil, err
	}
	return u.results, nil
}
