package store

import (
	"errors"
	"fmt"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// pending is what a transaction of the writer, or a snapshot, has done so far. A request is
// applied to it whole or not at all.
type pending struct {
	tx       *database.Tx
	now      kv.Timestamp
	written  []kv.Entry // the versions that were saved, in their order
	uncached []string   // keys to remove from the cache although they have no new version
	erased   *erasure   // what nobody may keep any more, or nil
	maxRead  int64      // how many bytes of values one batch may read
}

// pending loads the heads of the keys of a batch of requests.
func (s *Store) pending(tx *database.Tx, batch []*request) (*pending, error) {
	var keys []string
	for _, r := range batch {
		for key := range r.keys {
			keys = append(keys, key)
		}
	}
	tx.MaxVersions = s.maxVersions
	return &pending{tx: tx, now: s.clock.now(), maxRead: max(maxBatchRead, s.maxValueBytes)}, tx.Load(keys...)
}

// apply makes the changes of r, or sets r.err and leaves everything as it was. It returns an
// error when the database failed, and any error of a request that is alone.
func (p *pending) apply(r *request) error {
	if r.alone != nil {
		return r.alone(p)
	}
	if r.results, r.err = nil, p.damage(r); r.err != nil {
		return nil //nolint:nilerr // it is the answer
	}
	err := p.tx.Try(func() error { return p.tryApply(r) })
	if err == nil {
		r.revision = p.tx.Totals.Revision
		return nil
	}
	var condition *kv.PreconditionError
	if errors.As(err, &condition) { // it may have found a version that was taken back
		if current := p.current(condition.Key); current != condition.Current {
			condition.Current, condition.Meanwhile = current, true
		}
	}
	if !kv.ClassOf(err).OneRequest() {
		return err
	}
	r.err = err
	return nil
}

// damage returns the error of a key of r that is damaged. Nothing can be done with it.
func (p *pending) damage(r *request) error {
	for key := range r.keys {
		if _, err := p.tx.Head(key); err != nil {
			return err
		}
	}
	return nil
}

func (p *pending) tryApply(r *request) error {
	for i, q := range r.requirements {
		if current := p.current(q.Key); !q.If.Holds(current) {
			return &kv.PreconditionError{Index: i, Key: q.Key, Current: current}
		}
	}
	r.results = make([]Result, 0, len(r.changes))
	read := int64(0)
	for i, c := range r.changes {
		result, err := p.change(c)
		if read += c.bytesRead(result); err == nil && r.batch && read > p.maxRead {
			err = kv.BatchTooLarge(p.maxRead)
		}
		switch {
		case err != nil && r.batch && kv.ClassOf(err).OneRequest():
			return &OperationError{i, err}
		case err != nil:
			return err
		}
		r.results = append(r.results, result)
	}
	return nil
}

// head returns the head of a key that is not damaged.
func (p *pending) head(key string) database.Head {
	head, _ := p.tx.Head(key)
	return head
}

// current returns the latest version of a key that exists, else 0.
func (p *pending) current(key string) int64 { return p.head(key).Current(p.now) }

func (p *pending) change(c Change) (Result, error) {
	if err := c.If.Check(c.Key, p.current(c.Key)); err != nil {
		return Result{}, err
	}
	if c.Operation == OpGet {
		return p.get(c.Key)
	}
	expired := p.head(c.Key).Expired(p.now)
	entry := kv.Entry{Key: c.Key, Operation: c.Operation, Author: c.Author}
	var err error
	switch c.Operation {
	case kv.OpRevert:
		var from kv.Entry
		from, err = p.source(c.Key, c.Version)
		entry.Value, entry.ContentType = from.Value, from.ContentType
	case kv.OpDelete:
		err = p.exists(c.Key)
	case kv.OpPatch:
		entry.Value, entry.ContentType, err = c.Value, c.ContentType, p.patchable(c)
		entry.Expires = p.head(c.Key).Expires
	case kv.OpPut:
		entry.Value, entry.ContentType = c.Value, c.ContentType
	case kv.OpExpire, kv.OpDestroy: // not made by a Change
		fallthrough
	default:
		return Result{}, fmt.Errorf("%w: %q is no change", kv.ErrUnavailable, c.Operation)
	}
	if err != nil {
		return Result{}, err
	}
	if expired { // the tombstone comes first
		p.append(kv.Entry{Key: c.Key, Operation: kv.OpExpire})
	}
	if c.TTL > 0 {
		entry.Expires = p.now + kv.Timestamp(c.TTL.Microseconds())
	}
	return Result{Written: p.append(entry)}, nil
}

// append adds the next version of a key.
func (p *pending) append(entry kv.Entry) kv.Written {
	entry.Time = p.now
	return p.tx.Append(entry)
}

// save writes what was appended.
func (p *pending) save() error {
	saved, err := p.tx.Save()
	p.written = append(p.written, saved...)
	return err
}

// settle sets TotalVersions in the results to what the whole transaction leaves of the keys.
func (p *pending) settle(r *request) {
	for i := range r.results {
		if w := &r.results[i].Written; w.Entry.Version != 0 {
			w.TotalVersions = min(w.TotalVersions, p.head(w.Entry.Key).TotalVersions)
		}
	}
}

// exists returns nil for a key that exists, else why it does not.
func (p *pending) exists(key string) error {
	switch head := p.head(key); {
	case head.ID == 0:
		return kv.KeyNotFound(key)
	case head.Deleted:
		return kv.KeyDeleted(key, head.Version)
	case head.Expired(p.now):
		return kv.KeyExpired(key, head.Expires)
	default:
		return nil
	}
}

// source returns the version that a revert copies.
func (p *pending) source(key string, version int64) (kv.Entry, error) {
	if version == 0 {
		return p.lastValue(key)
	}
	entry, err := p.tx.Entry(key, version)
	if err != nil {
		return kv.Entry{}, err
	}
	return entry, entry.Readable()
}

// lastValue returns the last version before the tombstone of a deleted key.
func (p *pending) lastValue(key string) (kv.Entry, error) {
	head := p.head(key)
	end := head.Version // the tombstone
	switch {
	case head.ID == 0:
		return kv.Entry{}, kv.KeyNotFound(key)
	case head.Expired(p.now):
		end++
	case !head.Deleted:
		return kv.Entry{}, &kv.Error{Kind: kv.ErrVersionRequired, Field: "version",
			Detail: "must be given, since the key is not deleted: the version to go back to"}
	}
	entry, err := p.tx.LastValue(key, end)
	if err != nil {
		return kv.Entry{}, err
	}
	return entry, entry.Readable()
}

// patchable returns nil while the version that was patched is the latest and still has
// its value.
func (p *pending) patchable(c Change) error {
	if err := p.exists(c.Key); err != nil {
		return err
	}
	if current := p.current(c.Key); current != c.Version {
		return &kv.PreconditionError{Index: -1, Key: c.Key, Current: current}
	}
	entry, err := p.tx.Described(c.Key, c.Version)
	if err != nil {
		return err
	}
	return entry.Readable()
}

// get reads the latest version of a key within a batch.
func (p *pending) get(key string) (Result, error) {
	if err := p.exists(key); err != nil {
		return Result{Err: err}, nil //nolint:nilerr // it is the result
	}
	entry, err := p.tx.Entry(key, p.head(key).Version)
	if err != nil {
		return Result{}, err
	}
	if err := entry.Readable(); err != nil {
		return Result{Err: err}, nil //nolint:nilerr // as above
	}
	return Result{Entry: entry}, nil
}
