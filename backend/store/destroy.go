package store

import (
	"context"
	"errors"

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
// destroy a version again changes nothing, and is no error.
//
// Errors: kv.ErrInvalidKey, kv.ErrPreconditionFailed, kv.ErrKeyNotFound,
// kv.ErrVersionNotFound, kv.ErrVersionGone for a version that retention removed,
// kv.ErrKeyDeleted for one that is a tombstone and has no value (in all of these
// nothing was erased), or kv.ErrUnavailable.
func (s *Store) Destroy(ctx context.Context, key string, versions []int64, condition kv.Condition) (Destroyed, error) {
	if err := kv.CheckKey(key); err != nil {
		return Destroyed{}, err
	}
	var total int64
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
		head := st.heads[key]
		n, err := st.tx.Destroy(key, versions)
		total = head.TotalVersions - n
		st.uncached = append(st.uncached, key)
		return err
	})
	if err == nil {
		err = s.db.Scrub(ctx)
	}
	if err != nil {
		return Destroyed{}, err
	}
	return Destroyed{Key: key, Versions: versions, TotalVersions: total}, nil
}

// DestroyAll erases key and its whole history. A key that exists is deleted first,
// by a version that watchers see. When it returns nil, nothing of the key is left
// but a digest of its name and how far it had counted, so that a new key of that
// name goes on from there. author is the one of the version that watchers see.
//
// Errors are those of Destroy. After kv.ErrUnavailable it can be repeated: for a key that
// is erased already it takes what may be left off the disk before it returns
// kv.ErrKeyNotFound.
func (s *Store) DestroyAll(ctx context.Context, key, author string, condition kv.Condition) (Destroyed, error) {
	if err := kv.CheckKey(key); err != nil {
		return Destroyed{}, err
	}
	for erased := false; !erased; {
		before, err := s.end(ctx, key, author, condition)
		if before {
			if err := s.db.Scrub(ctx); err != nil {
				return Destroyed{}, err
			}
		}
		if err != nil {
			return Destroyed{}, err
		}
		condition = kv.Condition{} // it held when the key was ended
		err = s.goOnAlone(ctx, key, func(st *stage) error {
			head := st.heads[key]
			if erased = head.ID == 0 || head.Deleted; !erased {
				return nil // written again meanwhile
			}
			if head.ID == 0 {
				return nil
			}
			return st.tx.Erase(key, head)
		})
		if err != nil {
			return Destroyed{}, err
		}
	}
	if err := s.db.Scrub(ctx); err != nil {
		return Destroyed{}, err
	}
	return Destroyed{Key: key, Versions: []int64{}}, nil
}

// end deletes key, if it exists. It reports whether the key was erased before.
func (s *Store) end(ctx context.Context, key, author string, condition kv.Condition) (before bool, err error) {
	err = s.alone(ctx, key, func(st *stage) error {
		if err := condition.Check(key, st.current(key)); err != nil {
			return err
		}
		head := st.heads[key]
		if head.ID == 0 {
			before = head.Version != 0
			return kv.KeyNotFound(key)
		}
		if head.Deleted {
			return nil
		}
		st.append(kv.Entry{Key: key, Operation: kv.OpDestroy, Author: author})
		return st.save()
	})
	if !errors.Is(err, kv.ErrKeyNotFound) { // not even that the writer has come to it is sure
		return false, err
	}
	return before, err
}

// alone has the writer call fn in a transaction of its own, with the head of key.
func (s *Store) alone(ctx context.Context, key string, fn func(*stage) error) error {
	return s.writer.submit(aloneUnit(ctx, key, fn))
}

// goOnAlone is alone for a further step of something that was begun: it is not refused
// when the store is overloaded.
func (s *Store) goOnAlone(ctx context.Context, key string, fn func(*stage) error) error {
	return s.writer.await(aloneUnit(ctx, key, fn))
}

func aloneUnit(ctx context.Context, key string, fn func(*stage) error) *unit {
	return &unit{ctx: ctx, changes: []Change{{Key: key}}, alone: fn, done: make(chan struct{})}
}
