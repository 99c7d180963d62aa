package store

import (
	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// What a change needs to know of versions, those of its own transaction included.

// exists returns why a key does not exist.
func (s *stage) exists(key string) error {
	switch head := s.heads[key]; {
	case head.ID == 0:
		return kv.KeyNotFound(key)
	case head.Deleted:
		return kv.KeyDeleted(key, head.Version)
	case head.Expired(s.now):
		return kv.KeyExpired(key, head.Expires)
	default:
		return nil
	}
}

// entry returns that version of a key, or why there is none.
func (s *stage) entry(key string, version int64) (kv.Entry, error) {
	for i := len(s.written) - 1; i >= 0; i-- {
		if e := s.written[i].Entry; e.Key == key && e.Version == version {
			return e, nil
		}
	}
	if e, known := s.latest[key]; known && e.Version == version {
		return e, nil
	}
	head := s.heads[key]
	entry, found, err := s.tx.Entry(key, head.ID, version)
	if err != nil || found {
		return entry, err
	}
	return kv.Entry{}, whyNone(key, head, version)
}

// whyNone returns why a version of a key is not found.
func whyNone(key string, head database.Head, version int64) error {
	switch {
	case version > head.Version && head.ID == 0:
		return kv.KeyNotFound(key)
	case version > head.Version:
		return kv.VersionNotFound(key, version)
	case version < head.CompleteFrom || head.ID == 0: // it was pruned, or erased with its key
		return kv.VersionGone(key, version)
	default:
		return kv.Damaged(key, version)
	}
}

// described is entry of a stored version without its value, which may be damaged.
func (s *stage) described(key string, version int64) (kv.Entry, error) {
	head := s.heads[key]
	entry, found, err := s.tx.Described(key, head.ID, version)
	if err != nil || found {
		return entry, err
	}
	return kv.Entry{}, whyNone(key, head, version)
}

// source returns the version that a revert goes back to.
func (s *stage) source(key string, version int64) (kv.Entry, error) {
	if version == 0 {
		return s.lastValue(key)
	}
	entry, err := s.entry(key, version)
	if err != nil {
		return kv.Entry{}, err
	}
	return entry, entry.Readable()
}

// lastValue returns the last version before the tombstone of a deleted key.
func (s *stage) lastValue(key string) (kv.Entry, error) {
	head := s.heads[key]
	end := head.Version // the tombstone
	switch {
	case head.ID == 0:
		return kv.Entry{}, kv.KeyNotFound(key)
	case head.Expired(s.now):
		end++
	case !head.Deleted:
		return kv.Entry{}, &kv.Error{Kind: kv.ErrVersionRequired, Field: "version",
			Detail: "must be given, since the key is not deleted: the version to go back to"}
	}
	for i := len(s.written) - 1; i >= 0; i-- {
		if e := s.written[i].Entry; e.Key == key && !e.Operation.Tombstone() {
			return e, nil
		}
	}
	entry, found, err := s.tx.LastValue(key, head.ID, end)
	switch {
	case err != nil:
		return kv.Entry{}, err
	case !found:
		return kv.Entry{}, kv.VersionGone(key, end-1)
	default:
		return entry, entry.Readable()
	}
}

// patchable returns nil while the version that was patched is the latest and has
// its value still.
func (s *stage) patchable(c Change) error {
	if err := s.exists(c.Key); err != nil {
		return err
	}
	if current := s.current(c.Key); current != c.Version {
		return &kv.PreconditionError{Index: -1, Key: c.Key, Current: current}
	}
	entry, err := s.described(c.Key, c.Version)
	if err != nil {
		return err
	}
	return entry.Readable()
}

// get reads the latest version of a key within a batch.
func (s *stage) get(key string) (Result, error) {
	if err := s.exists(key); err != nil {
		return Result{Err: err}, nil //nolint:nilerr // that there is nothing is what was read
	}
	entry, err := s.entry(key, s.heads[key].Version)
	if err != nil {
		return Result{}, err
	}
	if err := entry.Readable(); err != nil {
		return Result{Err: err}, nil //nolint:nilerr // as above
	}
	return Result{Entry: entry}, nil
}
