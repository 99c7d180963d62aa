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

// A BatchResult is what a batch did.
type BatchResult struct {
	// Revision is that of the store after the batch: what the gets have read is the
	// state at that revision when nothing was written, and else the revision of the
	// batch's last write.
	Revision int64
	// Results has one for each operation, in their order.
	Results []Result
}

// An OperationError says which operation of a batch could not be made.
type OperationError struct {
	Index int
	Err   error
}

func (e *OperationError) Error() string { return fmt.Sprintf("operations[%d]: %v", e.Index, e.Err) }

// Unwrap returns the cause.
func (e *OperationError) Unwrap() error { return e.Err }

// maxBatchRead bounds the bytes of the values that the gets and reverts of one batch
// read, in sum: the writer reads them, and others wait for it meanwhile.
const maxBatchRead = maxBatchBytes

// Batch makes all changes in one transaction, in their order, or none of them. Each
// sees what those before it did, so that a key may come more than once; the
// requirements are those of the state before the first change. OpGet is allowed too,
// and of a change's members only Key and If count for it. The gets of a batch are a
// consistent read: no write of another comes between them. A batch of gets alone is made
// beside the writer, so writes do not wait for it, nor it for them.
//
// A requirement that does not hold is a *kv.PreconditionError with its index; a
// change that cannot be made is an *OperationError with one of the errors of Write,
// or with kv.ErrBatchTooLarge when the values that the batch reads come to more than
// 8 MiB (or the size of the largest value, when that is more).
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
	defer s.locks.share(own)()
	if !slices.ContainsFunc(own, func(c Change) bool { return c.Operation != OpGet }) {
		run = s.view
	}
	if err := run(r); err != nil {
		return BatchResult{}, err
	}
	return BatchResult{Revision: r.revision, Results: r.results}, nil
}

// view makes a request of gets beside the writer, from one snapshot.
func (s *Store) view(r *request) error {
	select {
	case s.views <- struct{}{}:
		defer func() { <-s.views }()
	case <-r.ctx.Done():
		return r.ctx.Err()
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

// existing returns the keys that a request of gets reads, as far as they exist, each once.
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

// bytesRead is how much of a value the change had to read for its result.
func (c Change) bytesRead(r Result) int64 {
	if c.Operation == OpGet {
		return int64(len(r.Entry.Value))
	}
	if c.Operation == kv.OpRevert {
		return int64(len(r.Written.Entry.Value))
	}
	return 0
}
