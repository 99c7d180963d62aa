package store

import (
	"context"
	"strings"

	"kvstore/backend/kv"
)

// Get returns the latest version of key and where it was read, or kv.ErrKeyNotFound,
// kv.ErrKeyDeleted when the key was deleted or has expired, or kv.ErrVersionGone
// when its latest version was destroyed.
func (s *Store) Get(ctx context.Context, key string) (kv.Entry, Source, error) {
	if err := kv.CheckKey(key); err != nil {
		return kv.Entry{}, "", err
	}
	if entry, ok := s.cache.Get(key); ok {
		if entry.Expires != 0 {
			if err := entry.Live(s.clock.now()); err != nil {
				return kv.Entry{}, "", err
			}
		}
		return entry, FromCache, nil
	}
	key = strings.Clone(key) // the cache keeps it, and a request may lie around it
	lease := s.cache.Lease(key)
	entry, err := s.db.Latest(ctx, key)
	if err = s.awaitPublished(ctx, key, entry, err); err == nil {
		entry.Key = key // one copy is enough
		err = entry.Live(s.clock.now())
	}
	if err != nil {
		s.cache.Release(lease)
		return kv.Entry{}, "", err
	}
	s.cache.Fill(lease, entry)
	return entry, FromDatabase, nil
}

// GetVersion returns that version of key and where it was read, or
// kv.ErrVersionNotFound, kv.ErrKeyDeleted when it is a tombstone, or
// kv.ErrVersionGone when it was removed or destroyed.
func (s *Store) GetVersion(ctx context.Context, key string, version int64) (kv.Entry, Source, error) {
	if err := kv.CheckKey(key); err != nil {
		return kv.Entry{}, "", err
	}
	isIt := func(e kv.Entry) bool { return e.Version == version }
	if entry, ok := s.cache.GetIf(key, isIt); ok {
		return entry, FromCache, nil
	}
	entry, err := s.db.Version(ctx, key, version)
	if err := s.awaitPublished(ctx, key, entry, err); err != nil {
		return kv.Entry{}, "", err
	}
	if err := entry.Readable(); err != nil {
		return kv.Entry{}, "", err
	}
	return entry, FromDatabase, nil
}

// An erasure makes versions of a key unreadable, all of them and the name when there are
// none; done is closed when the cache knows.
type erasure struct {
	key      string
	versions []int64
	done     chan struct{}
}

func newErasure(key string, versions []int64) *erasure {
	return &erasure{key: key, versions: versions, done: make(chan struct{})}
}

// awaitPublished returns once the cache and the log know what made the answer of the
// database: the write of an entry, or the erasure because of which it is destroyed or not
// there. Else a later read could be answered with what was before. Without a key it is about
// many. err is that of the read.
func (s *Store) awaitPublished(ctx context.Context, key string, entry kv.Entry, err error) error {
	if err == nil {
		if s.hooks.afterRead != nil {
			s.hooks.afterRead(entry)
		}
		err = s.log.await(ctx, entry.Revision)
	}
	if err == nil && !entry.Destroyed {
		return nil
	}
	if e := s.erasing.Load(); e != nil && (key == e.key || key == "") {
		select {
		case <-e.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}
