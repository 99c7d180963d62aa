package store

import (
	"errors"
	"fmt"
	"maps"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// A stage is what a transaction will append: the heads as they are so far, and the
// new versions in their order. A unit is applied to it whole or not at all.
type stage struct {
	tx    *database.Tx
	now   kv.Timestamp
	heads map[string]database.Head
	// failed has why a key that is damaged has no head. Nothing can be done to it.
	failed  map[string]error
	written []kv.Written
	// latest has latest versions that are known already.
	latest map[string]kv.Entry
	// uncached are keys whose cached value must go although no version follows it.
	uncached []string
	// erased is what was made unreadable, which nobody may keep.
	erased *erasure
	// maxRead is how many bytes of values one batch may read, maxValueBytes the size of
	// the largest value.
	maxRead, maxValueBytes int64
}

// apply adds what u wants, or sets u.err and leaves the stage as it was. It returns
// an error when the database failed.
func (s *stage) apply(u *unit) error {
	mark, totals := len(s.written), s.tx.Totals
	heads := s.headsOf(u)
	if u.results, u.err = nil, s.damage(u); u.err != nil {
		return nil //nolint:nilerr // it is the answer
	}
	err := s.tryApply(u)
	if err == nil {
		u.revision = s.tx.Totals.Revision
		return nil
	}
	s.written, s.tx.Totals = s.written[:mark], totals
	maps.Copy(s.heads, heads)
	var condition *kv.PreconditionError
	if errors.As(err, &condition) { // it has found what is taken back now
		if current := s.current(condition.Key); current != condition.Current {
			condition.Current, condition.Meanwhile = current, true
		}
	}
	if !kv.ClassOf(err).OneRequest() {
		return err
	}
	u.err = err
	return nil
}

// damage returns why u cannot be applied, whatever it wants: a key of it is damaged.
func (s *stage) damage(u *unit) (err error) {
	if len(s.failed) == 0 {
		return nil
	}
	u.keys(func(key string) {
		if err == nil {
			err = s.failed[key]
		}
	})
	return err
}

// headsOf copies the heads of the keys that u changes.
func (s *stage) headsOf(u *unit) map[string]database.Head {
	heads := make(map[string]database.Head, len(u.changes))
	for _, c := range u.changes {
		heads[c.Key] = s.heads[c.Key]
	}
	return heads
}

func (s *stage) tryApply(u *unit) error {
	for i, r := range u.requirements {
		if current := s.current(r.Key); !r.If.Holds(current) {
			return &kv.PreconditionError{Index: i, Key: r.Key, Current: current}
		}
	}
	u.results = make([]Result, 0, len(u.changes))
	read := int64(0)
	for i, c := range u.changes {
		result, err := s.change(c)
		if read += c.bytesRead(result); err == nil && u.batch && read > s.maxRead {
			err = kv.BatchTooLarge(s.maxRead)
		}
		switch {
		case err != nil && u.batch && kv.ClassOf(err).OneRequest():
			return &OperationError{i, err}
		case err != nil:
			return err
		}
		u.results = append(u.results, result)
	}
	return nil
}

// current is the latest version of a key that exists, else 0.
func (s *stage) current(key string) int64 { return s.heads[key].Current(s.now) }

func (s *stage) change(c Change) (Result, error) {
	if err := c.If.Check(c.Key, s.current(c.Key)); err != nil {
		return Result{}, err
	}
	if c.Operation == OpGet {
		return s.get(c.Key)
	}
	expired := s.heads[c.Key].Expired(s.now)
	entry := kv.Entry{Key: c.Key, Operation: c.Operation, Author: c.Author}
	var err error
	switch c.Operation {
	case kv.OpRevert:
		var from kv.Entry
		from, err = s.source(c.Key, c.Version)
		entry.Value, entry.ContentType = from.Value, from.ContentType
	case kv.OpDelete:
		err = s.exists(c.Key)
	case kv.OpPatch:
		entry.Value, entry.ContentType, err = c.Value, c.ContentType, s.patchable(c)
		entry.Expires = s.heads[c.Key].Expires
	case kv.OpPut:
		entry.Value, entry.ContentType = c.Value, c.ContentType
	case kv.OpExpire, kv.OpDestroy: // they are made otherwise
		fallthrough
	default:
		return Result{}, fmt.Errorf("%w: %q is no change", kv.ErrUnavailable, c.Operation)
	}
	if err != nil {
		return Result{}, err
	}
	if expired { // its tombstone comes first
		s.append(kv.Entry{Key: c.Key, Operation: kv.OpExpire})
	}
	if c.TTL > 0 {
		entry.Expires = s.now + kv.Timestamp(c.TTL.Microseconds())
	}
	return Result{Written: s.append(entry)}, nil
}

// append adds the next version of a key.
func (s *stage) append(entry kv.Entry) kv.Written {
	entry.Time = s.now
	head, written := s.tx.Number(s.heads[entry.Key], entry)
	s.heads[entry.Key] = head
	s.written = append(s.written, written)
	return written
}

// save appends all to the database.
func (s *stage) save() error {
	if len(s.written) == 0 {
		return nil
	}
	changed := make(map[string]database.Head)
	entries := make([]kv.Entry, 0, len(s.written))
	for _, w := range s.written {
		changed[w.Entry.Key] = s.heads[w.Entry.Key]
		entries = append(entries, w.Entry)
	}
	err := s.tx.Append(changed, entries)
	maps.Copy(s.heads, changed) // old versions may have gone
	return err
}

// settle tells callers how many versions a key has after the whole transaction.
func (s *stage) settle(u *unit) {
	for i := range u.results {
		if w := &u.results[i].Written; w.Entry.Version != 0 {
			w.TotalVersions = min(w.TotalVersions, s.heads[w.Entry.Key].TotalVersions)
		}
	}
}
