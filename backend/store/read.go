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
