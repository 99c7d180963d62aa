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
	// Versions are those that are erased now, in the order in which they were asked
	// for.
	Versions []int64
	// TotalVersions counts the versions in the key's history that are not destroyed.
	TotalVersions int64
}

// Destroy erases the values of those versions of key for good. When it returns nil
// the bytes are neither in the database file nor in its log nor in the cache; the
// numbers stay, and reading them is kv.ErrVersionGone. It makes no version. To
// destroy a version again changes nothing, and is no error. Many or large versions go in
// several transactions, so that other writes wait for none of them long.
//
// Errors: kv.ErrInvalidKey, kv.ErrPreconditionFailed, kv.ErrKeyNotFound,
// kv.ErrVersionNotFound, kv.ErrVersionGone for a version that retention removed,
// kv.ErrKeyDeleted for one that is a tombstone and has no value (in all of these
// nothing was erased), or kv.ErrUnavailable.
func (s *Store) Destroy(ctx context.Context, key string, versions []int64, condition kv.Condition) (Destroyed, error) {
	if err := kv.CheckKey(key); err != nil {
		return Destroyed{}, err
	}
	key = strings.Clone(key)
	var total int64
	rest := versions
	destroy := func(st *stage) (err error) {
		head := st.heads[key]
		destroyed, left, err := st.tx.Destroy(key, rest)
		st.erased = newErasure(key, rest[:len(rest)-len(left)])
		total, rest = head.TotalVersions-destroyed, left
		st.uncached = append(st.uncached, key)
		return err
	}
	err := s.alone(ctx, key, func(st *stage) error {
		if err := condition.Check(key, st.current(key)); err != nil {
			return err
		}
		for _, version := range versions {
			entry, err := st.described(key, version)
			if err != nil {
				return err
			}
			if entry.Operation.Tombstone() {
				return kv.KeyDeleted(key, version)
			}
		}
		return destroy(st)
	})
	for err == nil && len(rest) > 0 {
		err = s.goOnAlone(ctx, []string{key}, sound(key, destroy))
	}
	if err == nil {
		err = s.db.Scrub(ctx)
	}
	if err != nil {
		return Destroyed{}, err
	}
	return Destroyed{Key: key, Versions: versions, TotalVersions: total}, nil
}

// DestroyAll erases key and its whole history. A key that exists ends with a version
// that watchers see, and that version is the last one to be erased: what is written
// after it stays. When DestroyAll returns nil, nothing up to there is left but a digest
// of the name and how far the key had counted, so that a new key of that name goes on
// from there. author is the one of the version that watchers see.
//
// A short history ends and goes in one transaction. A long one goes in several, so that
// other writes wait for none of them long.
//
// Errors are those of Destroy. After kv.ErrUnavailable it can be repeated: for a key that
// is erased already it takes what may be left off the disk before it returns
// kv.ErrKeyNotFound.
func (s *Store) DestroyAll(ctx context.Context, key, author string, condition kv.Condition) (Destroyed, error) {
	if err := kv.CheckKey(key); err != nil {
		return Destroyed{}, err
	}
	key, author = strings.Clone(key), strings.Clone(author)
	var last int64 // the version that ends the key
	var before, erased bool
	err := s.alone(ctx, key, func(st *stage) (err error) {
		if err := condition.Check(key, st.current(key)); err != nil {
			return err
		}
		head := st.heads[key]
		if head.ID == 0 {
			before = head.Version != 0
			return kv.KeyNotFound(key)
		}
		if !head.Deleted {
			st.append(kv.Entry{Key: key, Operation: kv.OpDestroy, Author: author})
			if err := st.save(); err != nil {
				return err
			}
		}
		last = st.heads[key].Version
		erased, err = st.tx.Erase(key, st.heads[key], last)
		st.erased = newErasure(key, nil)
		return err
	})
	for err == nil && !erased {
		err = s.goOnAlone(ctx, []string{key}, sound(key, func(st *stage) (err error) {
			erased, err = st.tx.Erase(key, st.heads[key], last)
			st.erased = newErasure(key, nil)
			return err
		}))
	}
	// Only with these two is it certain that the writer is done with the variables above.
	if err == nil || errors.Is(err, kv.ErrKeyNotFound) && before {
		err = errors.Join(s.db.Scrub(ctx), err)
	}
	if err != nil {
		return Destroyed{}, err
	}
	return Destroyed{Key: key, Versions: []int64{}}, nil
}

// alone has the writer call fn in a transaction of its own, with the head of key. When
// that is damaged, its error is that of alone.
func (s *Store) alone(ctx context.Context, key string, fn func(*stage) error) error {
	return s.writer.submit(aloneUnit(ctx, []string{key}, sound(key, fn)))
}

// goOnAlone is alone for what the store does itself, and for further steps of something
// that was begun: it is not refused when the store is overloaded. fn must look at failed.
func (s *Store) goOnAlone(ctx context.Context, keys []string, fn func(*stage) error) error {
	return s.writer.await(aloneUnit(ctx, keys, fn))
}

func sound(key string, fn func(*stage) error) func(*stage) error {
	return func(st *stage) error {
		if err := st.failed[key]; err != nil {
			return err
		}
		return fn(st)
	}
}

func aloneUnit(ctx context.Context, keys []string, fn func(*stage) error) *unit {
	u := &unit{ctx: ctx, changes: make([]Change, len(keys)), alone: fn, done: make(chan struct{})}
	for i, key := range keys {
		u.changes[i].Key = key
	}
	return u
}
