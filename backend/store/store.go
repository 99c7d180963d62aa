package store

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"kvstore/backend/cache"
	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// A Config has what a store is made of.
type Config struct {
	// Database keeps the entries. The store does not close it.
	Database *database.DB
	// Cache is empty at the start. The store does not close it.
	Cache *cache.Cache[kv.Entry]
	// MaxValueBytes is the size of the largest value.
	MaxValueBytes int64
	// MaxVersions is how many of the newest versions of a key are kept, and
	// MaxVersionAge how long a version is kept after it was written; 0 means all
	// and for ever. The latest version of a key is always kept.
	MaxVersions   int
	MaxVersionAge time.Duration
	// SweepInterval is the time between two searches for versions that grew old;
	// 0 means a minute.
	SweepInterval time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger is told of failed transactions.
	Logger *slog.Logger
}

// A Store reads and writes entries. Its methods may be called from many goroutines.
type Store struct {
	db            *database.DB
	cache         *cache.Cache[kv.Entry]
	maxValueBytes int64
	writer        *writer
	retention     *retention // nil when everything is kept

	// publishing is held by the writer from before a commit until all that it
	// committed is in the cache.
	publishing sync.RWMutex
	// published is the revision up to which the cache knows every write.
	published atomic.Int64

	hooks hooks
}

// hooks let tests hold the store at the moments where orders matter; nil in use.
type hooks struct {
	afterRead   func(kv.Entry)
	afterCommit func()
}

// A Source says where a read was answered from.
type Source string

// The sources of a read.
const (
	FromCache    Source = "cache"
	FromDatabase Source = "database"
)

// New returns a store over an open database.
func New(cfg Config) (*Store, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	totals, err := cfg.Database.Stats(context.Background())
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{db: cfg.Database, cache: cfg.Cache, maxValueBytes: cfg.MaxValueBytes}
	s.published.Store(totals.Revision)
	s.retention = startRetention(cfg)
	s.writer = startWriter(s, cfg)
	return s, nil
}

// Close refuses new writes, finishes those that were accepted, and returns when
// everything that New started has ended.
func (s *Store) Close() {
	s.writer.close()
	s.retention.close()
}

// ID identifies the store for as long as its database exists.
func (s *Store) ID() string { return s.db.StoreID() }

// Ping returns nil when the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.db.Ping(ctx) }

// MaxValueBytes is the size of the largest value that Put accepts.
func (s *Store) MaxValueBytes() int64 { return s.maxValueBytes }

// Put makes value, a JSON text, the next version of key. When it returns nil the
// version is on disk. The bytes of value must not change afterwards.
//
// Errors: kv.ErrInvalidKey, kv.ErrValueTooLarge, kv.ErrStorageFull,
// kv.ErrUnavailable (in all of these nothing was written), or that of ctx, when
// the caller stopped waiting and the outcome is unknown.
func (s *Store) Put(ctx context.Context, key string, value []byte) (kv.Written, error) {
	if err := kv.CheckKey(key); err != nil {
		return kv.Written{}, err
	}
	if int64(len(value)) > s.maxValueBytes {
		return kv.Written{}, kv.ValueTooLarge(s.maxValueBytes)
	}
	return s.writer.submit(ctx, key, value)
}

// Get returns the latest version of key and where it was read, or
// kv.ErrKeyNotFound.
func (s *Store) Get(ctx context.Context, key string) (kv.Entry, Source, error) {
	if err := kv.CheckKey(key); err != nil {
		return kv.Entry{}, "", err
	}
	if entry, ok := s.cache.Get(key); ok {
		return entry, FromCache, nil
	}
	lease := s.cache.Lease(key)
	entry, err := s.db.Latest(ctx, key)
	if err != nil {
		s.cache.Release(lease)
		return kv.Entry{}, "", err
	}
	s.awaitPublished(entry)
	s.cache.Fill(lease, entry)
	return entry, FromDatabase, nil
}

// GetVersion returns that version of key and where it was read, or
// kv.ErrVersionNotFound, or kv.ErrVersionGone when it was removed.
func (s *Store) GetVersion(ctx context.Context, key string, version int64) (kv.Entry, Source, error) {
	if err := kv.CheckKey(key); err != nil {
		return kv.Entry{}, "", err
	}
	isIt := func(e kv.Entry) bool { return e.Version == version }
	if entry, ok := s.cache.GetIf(key, isIt); ok {
		return entry, FromCache, nil
	}
	entry, err := s.db.Version(ctx, key, version)
	if err != nil {
		return kv.Entry{}, "", err
	}
	s.awaitPublished(entry)
	return entry, FromDatabase, nil
}

// awaitPublished returns once the cache knows the write that made an entry which
// the database has answered. A committed entry that is not published is being
// published now, by a writer that holds the lock; so the lock is all there is to
// wait for.
func (s *Store) awaitPublished(entry kv.Entry) {
	if s.hooks.afterRead != nil {
		s.hooks.afterRead(entry)
	}
	if entry.Revision <= s.published.Load() {
		return
	}
	s.publishing.RLock()
	defer s.publishing.RUnlock()
}

// CacheStats describes the cache.
func (s *Store) CacheStats() cache.Stats { return s.cache.Stats() }

// DatabaseStats describes the database, in constant time.
func (s *Store) DatabaseStats(ctx context.Context) (kv.DatabaseStats, error) { return s.db.Stats(ctx) }

// errClosed is what a write gets from a store that is closing.
var errClosed = fmt.Errorf("%w: the store is closing", kv.ErrUnavailable)
