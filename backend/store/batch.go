package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// A Requirement is a condition of a batch.
type Requirement struct {
	Key string
	If  kv.Condition
}

// OpGet reads a key as it is at that point of the batch.
const OpGet kv.Operation = "get"

// A Result is what one operation of a batch did.
type Result struct {
	// Written is what a write did.
	Written kv.Written
	// Entry is what OpGet read. Err is why it read nothing: kv.ErrKeyNotFound,
	// kv.ErrKeyDeleted or kv.ErrVersionGone.
	Entry kv.Entry
	Err   error
}

// A BatchResult is what a batch did.
type BatchResult struct {
	// Revision is the revision of the store after the batch, that of the batch's last write.
	// When nothing was written, the gets have read the state at that revision.
	Revision int64
	// Results has one result for each operation, in their order.
	Results []Result
}

// An OperationError says which operation of a batch failed.
type OperationError struct {
	Index int
	Err   error
}

func (e *OperationError) Error() string { return fmt.Sprintf("operations[%d]: %v", e.Index, e.Err) }

// Unwrap returns the cause.
func (e *OperationError) Unwrap() error { return e.Err }

// maxBatchRead bounds the bytes of all values that the gets and reverts of one batch
// read, because other writes wait while the writer reads them.
const maxBatchRead = maxBatchBytes

// Batch makes all changes in one transaction, in their order, or none of them. Each
// sees what those before it did, and a key may occur more than once. The requirements are
// checked before the first change. A change may also be an OpGet, which uses only Key and
// If. The gets of a batch are a consistent read: no other write comes between them. A batch
// of gets alone reads a snapshot, so writes do not wait for it, nor it for them.
//
// A requirement that does not hold is a *kv.PreconditionError with its index. A
// change that cannot be made is an *OperationError with one of the errors of Write,
// or with kv.ErrBatchTooLarge when the batch reads more than 8 MiB of values (or the size of
// the largest value, if that is more).
func (s *Store) Batch(ctx context.Context, requirements []Requirement, changes []Change) (BatchResult, error) {
	conditions := make([]Requirement, len(requirements))
	for i, r := range requirements {
		if err := kv.CheckKey(r.Key); err != nil {
			return BatchResult{}, err
		}
		conditions[i] = Requirement{strings.Clone(r.Key), r.If}
	}
	own := make([]Change, len(changes))
	for i, c := range changes {
		if err := s.check(c); err != nil {
			return BatchResult{}, &OperationError{i, err}
		}
		own[i] = c.owned()
	}
	r := &request{ctx: ctx, requirements: conditions, changes: own, batch: true, done: make(chan struct{})}
	run := s.writer.queue.submit
	defer s.locks.lockWrites(own)()
	if !slices.ContainsFunc(own, func(c Change) bool { return c.Operation != OpGet }) {
		run = s.snapshot
	}
	if err := run(r); err != nil {
		return BatchResult{}, err
	}
	return BatchResult{Revision: r.revision, Results: r.results}, nil
}

// snapshot answers a request that has only gets, from one snapshot.
func (s *Store) snapshot(r *request) error {
	select {
	case s.snapshots <- struct{}{}:
		defer func() { <-s.snapshots }()
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
	if err := s.fresh(r.ctx); err != nil {
		return err
	}
	var revision int64
	err := s.db.View(r.ctx, func(tx *database.Tx) error {
		revision = tx.Totals.Revision
		p, err := s.pending(tx, []*request{r})
		if err != nil {
			return err
		}
		if _, err := tx.Latest(p.existing(r), p.maxRead); err != nil {
			return err
		}
		return p.apply(r)
	})
	missing := r.err != nil || slices.ContainsFunc(r.results, func(r Result) bool { return r.Err != nil })
	if err := s.awaitPublished(r.ctx, "", kv.Entry{Revision: revision, Destroyed: missing}, err); err != nil {
		return err
	}
	return r.err
}

// existing returns the keys of a request that exist, each once.
func (p *pending) existing(r *request) []string {
	keys := make([]string, 0, len(r.changes))
	for _, c := range r.changes {
		if p.current(c.Key) != 0 {
			keys = append(keys, c.Key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// bytesRead is the size of the value that the change had to read.
func (c Change) bytesRead(r Result) int64 {
	if c.Operation == OpGet {
		return int64(len(r.Entry.Value))
	}
	if c.Operation == kv.OpRevert {
		return int64(len(r.Written.Entry.Value))
	}
	return 0
}
