package store

import (
	"context"
	"errors"
	"strings"

	"kvstore/backend/kv"
)

// A Destroyed is what Destroy did.
type Destroyed struct {
	Key string
	// Versions are the erased versions, in the order of the request.
	Versions []int64
	// TotalVersions counts the versions in the key's history that are not destroyed.
	TotalVersions int64
	// Gone reports that the bytes are off the disk too. Otherwise the engine keeps them until it
	// reuses their space.
	Gone bool
}

// Destroy erases the values of those versions of key for good. When it returns nil
// nothing can read them any more, and if Gone the bytes are neither in the database file nor in its log. The
// numbers stay, and reading them is kv.ErrVersionGone. Destroy makes no version. Destroying
// a version again is no error and changes nothing. Many or large versions take several
// transactions, so that other writes wait only briefly.
//
// Nothing was erased with kv.ErrInvalidKey, kv.ErrPreconditionFailed, kv.ErrKeyNotFound,
// kv.ErrVersionNotFound, kv.ErrVersionGone for a version that retention removed, and
// kv.ErrKeyDeleted for a tombstone, which has no value. After kv.ErrUnavailable and
// kv.ErrDiskFailed some may be erased, and the call can be repeated.
func (s *Store) Destroy(ctx context.Context, key string, versions []int64, condition kv.Condition) (Destroyed, error) {
	if err := kv.CheckKey(key); err != nil {
		return Destroyed{}, err
	}
	key = strings.Clone(key)
	var total int64
	var left []int64
	rest := versions
	destroy := func(p *pending) (err error) { // it may be called again before it is committed
		if left, err = p.tx.Destroy(key, rest); err != nil {
			return err
		}
		p.erased = newErasure(key, rest[:len(rest)-len(left)])
		total = p.head(key).TotalVersions
		p.uncached = append(p.uncached, key)
		return nil
	}
	err := s.writer.queue.submit(aloneRequest(ctx, func(p *pending) error {
		if _, err := p.tx.Head(key); err != nil {
			return err
		}
		if err := condition.Check(key, p.current(key)); err != nil {
			return err
		}
		for _, version := range versions {
			entry, err := p.tx.Described(key, version)
			if err != nil {
				return err
			}
			if entry.Operation.Tombstone() {
				return kv.KeyDeleted(key, version)
			}
		}
		return destroy(p)
	}, key))
	for err == nil && len(left) > 0 {
		rest = left
		err = s.writer.queue.await(aloneRequest(ctx, destroy, key))
	}
	gone := false
	if err == nil {
		gone, err = s.db.Scrub(ctx)
	}
	if err != nil {
		return Destroyed{}, err
	}
	return Destroyed{Key: key, Versions: versions, TotalVersions: total, Gone: gone}, nil
}

// DestroyAll erases key and its whole history. A key that exists ends with a version
// that watchers see, made by author, and that version is the last one to be erased: what is
// written after it stays. When DestroyAll returns nil, all that is left of the history up to
// there is a digest of the name and the number of the last version, so that a new key of
// that name goes on from there.
//
// A short history is erased in one transaction. A long one takes several, so that
// other writes wait only briefly.
//
// Errors are those of Destroy. For a key that is erased already, DestroyAll takes what may be
// left of it off the disk before it returns kv.ErrKeyNotFound.
func (s *Store) DestroyAll(ctx context.Context, key, author string, condition kv.Condition) (Destroyed, error) {
	if err := kv.CheckKey(key); err != nil {
		return Destroyed{}, err
	}
	key, author = strings.Clone(key), strings.Clone(author)
	var last int64 // the version that ends the key
	var erasedBefore, erased bool
	erase := func(p *pending) (err error) {
		erased, err = p.tx.Erase(key, last)
		p.erased = newErasure(key, nil)
		return err
	}
	err := s.writer.queue.submit(aloneRequest(ctx, func(p *pending) error {
		head, err := p.tx.Head(key)
		if err != nil {
			return err
		}
		if err := condition.Check(key, p.current(key)); err != nil {
			return err
		}
		if head.ID == 0 {
			erasedBefore = head.Version != 0
			return kv.KeyNotFound(key)
		}
		if !head.Deleted {
			p.append(kv.Entry{Key: key, Operation: kv.OpDestroy, Author: author})
			if err := p.save(); err != nil {
				return err
			}
		}
		last = p.head(key).Version
		return erase(p)
	}, key))
	for err == nil && !erased {
		err = s.writer.queue.await(aloneRequest(ctx, erase, key))
	}
	// With any other error the writer may still be using the variables above.
	gone := false
	if err == nil || errors.Is(err, kv.ErrKeyNotFound) && erasedBefore {
		var failed error
		gone, failed = s.db.Scrub(ctx)
		err = errors.Join(failed, err)
	}
	if err != nil {
		return Destroyed{}, err
	}
	return Destroyed{Key: key, Versions: []int64{}, Gone: gone}, nil
}

// aloneRequest returns a request to call fn in a transaction of its own, with the heads of
// keys.
func aloneRequest(ctx context.Context, fn func(*pending) error, keys ...string) *request {
	r := &request{ctx: ctx, changes: make([]Change, len(keys)), alone: fn, done: make(chan struct{})}
	for i, key := range keys {
		r.changes[i].Key = key
	}
	return r
}
