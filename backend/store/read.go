package store

import (
	"context"
	"errors"
	"slices"
	"strings"

	"kvstore/backend/kv"
)

// A Source says where a read was answered from.
type Source string

// The sources of a read.
const (
	FromCache    Source = "cache"
	FromDatabase Source = "database"
)

// Get returns the latest version of key and its source, or kv.ErrKeyNotFound,
// kv.ErrKeyDeleted when the key was deleted or has expired, or kv.ErrVersionGone
// when its latest version was destroyed.
func (s *Store) Get(ctx context.Context, key string) (kv.Entry, Source, error) {
	if err := kv.CheckKey(key); err != nil {
		return kv.Entry{}, "", err
	}
	if err := s.fresh(ctx); err != nil {
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
	key = strings.Clone(key) // the cache keeps it, and it may be part of a whole request
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

// Reach returns nil when reads that begin now, with a context of Known too, see every write up to that
// revision. The error is kv.ErrFutureRevision when the store has not come so far, and
// kv.ErrNotReached when ctx ends before that is known.
func (s *Store) Reach(ctx context.Context, revision int64) error {
	if s.log.reached() >= revision {
		return nil
	}
	switch err := s.fresh(ctx); {
	case errors.Is(err, context.DeadlineExceeded):
		return kv.MinRevisionUnknown(revision, s.log.reached())
	case err != nil:
		return err
	}
	if head := s.log.reached(); revision > head {
		return kv.MinRevisionNotReached(revision, head)
	}
	return nil
}

// GetVersion returns that version of key and its source, or
// kv.ErrVersionNotFound, kv.ErrKeyDeleted when it is a tombstone, or
// kv.ErrVersionGone when it was removed or destroyed.
func (s *Store) GetVersion(ctx context.Context, key string, version int64) (kv.Entry, Source, error) {
	if err := kv.CheckKey(key); err != nil {
		return kv.Entry{}, "", err
	}
	if err := s.fresh(ctx); err != nil {
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

// maxPageBytes bounds a page of a history, unless a single value is larger.
const maxPageBytes = 4 << 20

// History returns a page of the versions of key, deleted or not, as they were at one
// moment, or kv.ErrKeyNotFound. A page ends before r.Limit when its values and texts
// have 4 MiB. r.MaxBytes is not used.
//
// A read of the key that begins after the answer returns the version that was the newest
// at that moment, or a later one.
func (s *Store) History(ctx context.Context, key string, r kv.HistoryRequest) (kv.History, error) {
	if err := kv.CheckKey(key); err != nil {
		return kv.History{}, err
	}
	if err := s.fresh(ctx); err != nil {
		return kv.History{}, err
	}
	r.MaxBytes = maxPageBytes
	page, revision, err := s.db.History(ctx, key, r)
	destroyed := slices.ContainsFunc(page.Versions, func(item kv.HistoryItem) bool { return item.Destroyed })
	seen := kv.Entry{Revision: revision, Destroyed: destroyed}
	if err := s.awaitPublished(ctx, key, seen, err); err != nil {
		return kv.History{}, err
	}
	return page, nil
}

// Keys returns a page of the keys, as they were at one moment, in byte order. A key that
// exists from the first page to the last is on exactly one of them, whatever is written
// meanwhile. A read that begins after the answer sees each listed version or a later one.
func (s *Store) Keys(ctx context.Context, r kv.KeysRequest) (kv.KeysPage, error) {
	if err := s.fresh(ctx); err != nil {
		return kv.KeysPage{}, err
	}
	page, err := s.db.Keys(ctx, r, s.clock.now())
	destroyed := slices.ContainsFunc(page.Keys, func(item kv.KeyItem) bool { return item.Latest.Destroyed })
	seen := kv.Entry{Revision: page.Revision, Destroyed: destroyed}
	if err := s.awaitPublished(ctx, "", seen, err); err != nil {
		return kv.KeysPage{}, err
	}
	return page, nil
}

// GetAt returns the version of key that was the latest at that time, and its source: the last
// version whose timestamp is not later. A time in the future counts as now.
// Errors are kv.ErrKeyNotFound, kv.ErrVersionNotFound when the key had no version
// yet, kv.ErrKeyDeleted when it was deleted or had expired, and kv.ErrVersionGone when
// the version was destroyed or retention removed the versions of that time.
//
// A write in progress may get a timestamp up to now, so an answer is final only for a
// time before the last write. No answer contradicts an earlier read: a
// version that was read is found from its timestamp on.
func (s *Store) GetAt(ctx context.Context, key string, at kv.Timestamp) (kv.Entry, Source, error) {
	if err := kv.CheckKey(key); err != nil {
		return kv.Entry{}, "", err
	}
	if err := s.fresh(ctx); err != nil {
		return kv.Entry{}, "", err
	}
	then := min(at, s.clock.now())
	entry, cached := s.cache.GetIf(key, func(e kv.Entry) bool { return e.Time <= at })
	if cached {
		if err := entry.Live(then); err != nil {
			return kv.Entry{}, "", err
		}
		return entry, FromCache, nil
	}
	entry, err := s.db.At(ctx, key, at)
	if err := s.awaitPublished(ctx, key, entry, err); err != nil {
		return kv.Entry{}, "", err
	}
	if err := entry.Live(then); err != nil {
		return kv.Entry{}, "", err
	}
	return entry, FromDatabase, nil
}
