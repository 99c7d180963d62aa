package store

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
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
	// and for ever. The latest version of a key is always kept, unless it is a tombstone.
	MaxVersions   int
	MaxVersionAge time.Duration
	// SweepInterval is the time between two searches for versions that grew old;
	// 0 means a minute.
	SweepInterval time.Duration
	// MaxWatchers is how many watches may be open at once; 0 means 10,000.
	MaxWatchers int
	// MaxQueuedWrites and MaxQueuedBytes bound the writes that wait for the disk, in
	// number and by the bytes of their values; 0 means 4,096 and 128 MiB. What goes
	// over a bound is refused with kv.ErrOverloaded.
	MaxQueuedWrites int
	MaxQueuedBytes  int64
	// Now is the clock; nil means that of the machine.
	Now func() time.Time
	// Logger is told of failed transactions.
	Logger *slog.Logger
	// Observe, when set, watches the writer's transactions.
	Observe Observe
}

// A Store reads and writes entries. Its methods may be called from many goroutines.
type Store struct {
	db            *database.DB
	cache         *cache.Cache[kv.Entry]
	maxValueBytes int64
	writer        *writer
	keep          int64 // Config.MaxVersions
	janitor       *janitor
	diskProbe     *diskProbe
	clock         *clock
	locks         *keyLocks
	log           *log
	watchers      *watchers
	pages         *pages
	restored      int64 // the revision with which the last restore of a backup went on
	counters      counters
	views         chan struct{} // has one for each batch of gets that is made
	logger        *slog.Logger

	// erasing is what is being erased, from before the commit until the cache knows.
	erasing atomic.Pointer[erasure]

	// full: the last transaction found no room on the disk.
	full atomic.Bool

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
		cfg.Now = machineTime
	}
	totals, err := cfg.Database.Stats(context.Background())
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	lastWrite, err := cfg.Database.LastWrite(context.Background())
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{
		db: cfg.Database, cache: cfg.Cache, maxValueBytes: cfg.MaxValueBytes, keep: int64(cfg.MaxVersions),
		clock: newClock(cfg.Now, lastWrite), locks: newKeyLocks(),
		views: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), // others are for the writer
		log:   newLog(totals.Revision), pages: newPages(cfg.Database), restored: totals.Restored, logger: cfg.Logger,
	}
	s.watchers = startWatchers(s.log, s.pages.pacer, cfg.MaxWatchers, &s.counters.cut)
	s.diskProbe = startDiskProbe(cfg.Database, cfg.Logger)
	s.writer = startWriter(s, cfg)
	s.janitor = startJanitor(s, cfg)
	return s, nil
}

// Close refuses new writes, finishes those that were accepted, ends every watch, and
// returns when everything that New started has ended.
func (s *Store) Close() {
	s.EndWatches()
	s.janitor.close()
	s.writer.close()
	s.diskProbe.close()
	s.watchers.close()
	s.pages.close()
}

// A task is a goroutine of the store that works by itself until close.
type task struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

// startTask runs a task, which ends soon after its context.
func startTask(run func(context.Context)) *task {
	ctx, cancel := context.WithCancel(context.Background())
	t := &task{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(t.ended)
		run(ctx)
	}()
	return t
}

// close ends the task and waits for it.
func (t *task) close() {
	t.cancel()
	<-t.ended
}

// ID identifies the store for as long as its database exists.
func (s *Store) ID() string { return s.db.StoreID() }

// Ping returns nil when the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.db.Ping(ctx) }

// MaxValueBytes is the size of the largest value that a write accepts.
func (s *Store) MaxValueBytes() int64 { return s.maxValueBytes }

// CacheStats describes the cache.
func (s *Store) CacheStats() cache.Stats { return s.cache.Stats() }

// DatabaseStats describes the database, in constant time.
func (s *Store) DatabaseStats(ctx context.Context) (kv.DatabaseStats, error) { return s.db.Stats(ctx) }

// errClosed is what a write gets from a store that is closing.
var errClosed = fmt.Errorf("%w: the store is closing", kv.ErrUnavailable)

// Backup makes a copy of the whole store, see database.Engine. Every write that was answered before
// Backup was called is in it. Writes go on; each waits for the copying of at most a
// megabyte. The copy must be closed.
func (s *Store) Backup(ctx context.Context) (*database.Copy, error) {
	made, err := s.db.Copy(ctx)
	if err != nil {
		return nil, err
	}
	s.logger.InfoContext(ctx, "a backup was made", "revision", made.Revision, "bytes", made.Bytes)
	return made, nil
}

// Compact gives some of the free space of the database file back to the disk, at most
// a megabyte, and says how much it was and how much is left. It changes nothing that a
// read can see. Free space is used by later writes too, so this is for a store that
// has become smaller for good.
func (s *Store) Compact(ctx context.Context) (kv.Compaction, error) {
	return s.db.Compact(ctx)
}
