package store

import (
	"context"
	"slices"

	"kvstore/backend/kv"
)

// maxPageBytes bounds a page of a history; one value may be larger alone.
const maxPageBytes = 4 << 20

// History returns a page of the versions of key, deleted or not, as they were at one
// moment, or kv.ErrKeyNotFound. A page ends before r.Limit when its values and texts
// have 4 MiB. r.MaxBytes is not used.
//
// A read of the key that begins after the answer gives the newest version which the
// whole history had then, or a later one.
func (s *Store) History(ctx context.Context, key string, r kv.HistoryRequest) (kv.History, error) {
	if err := kv.CheckKey(key); err != nil {
		return kv.History{}, err
	}
	r.MaxBytes = maxPageBytes
	page, revision, err := s.db.History(ctx, key, r)
	seen := kv.Entry{Revision: revision, Destroyed: slices.ContainsFunc(page.Versions, func(item kv.HistoryItem) bool { return item.Destroyed })}
	if err := s.awaitPublished(ctx, key, seen, err); err != nil {
		return kv.History{}, err
	}
	return page, nil
}

// Keys returns a page of the keys, as they were at one moment, in the order of their
// bytes. Whatever is written meanwhile, a key that exists from the first page to the
// last is on exactly one of them. A read that begins after the answer sees each
// listed version or a later one.
func (s *Store) Keys(ctx context.Context, r kv.KeysRequest) (kv.KeysPage, error) {
	page, err := s.db.Keys(ctx, r, s.clock.now())
	seen := kv.Entry{Revision: page.Revision, Destroyed: slices.ContainsFunc(page.Keys, func(item kv.KeyItem) bool { return item.Latest.Destroyed })}
	if err := s.awaitPublished(ctx, "", seen, err); err != nil {
		return kv.KeysPage{}, err
	}
	return page, nil
}

// GetAt returns the version of key that was the latest at that time and where it was
// read: the last version whose timestamp is not later. A time to come is like now.
// Errors are kv.ErrKeyNotFound, kv.ErrVersionNotFound when the key had no version
// yet, kv.ErrKeyDeleted when it was deleted or had expired, or kv.ErrVersionGone when
// the version was destroyed, or when retention removed those of that time.
//
// A write that is under way may get a timestamp up to now, so only the answer for a
// time before the last write is for ever. No answer contradicts an earlier read: a
// version that was read is found from its timestamp on.
func (s *Store) GetAt(ctx context.Context, key string, at kv.Timestamp) (kv.Entry, Source, error) {
	if err := kv.CheckKey(key); err != nil {
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
