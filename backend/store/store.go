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

// A Config says what a store is made of.
type Config struct {
	// Database holds the entries. The store does not close it.
	Database *database.DB
	// Cache is empty at first. The store does not close it.
	Cache *cache.Cache[kv.Entry]
	// MaxValueBytes is the size of the largest value.
	MaxValueBytes int64
	// MaxVersions is how many of the newest versions of a key are kept, and
	// MaxVersionAge how long a version is kept after it was written; 0 means all
	// and forever. The latest version of a key is always kept, unless it is a tombstone.
	MaxVersions   int
	MaxVersionAge time.Duration
	// SweepInterval is the time between two searches for versions that are too old;
	// 0 means a minute.
	SweepInterval time.Duration
	// MaxWatchers is how many watches may be open at once; 0 means 10,000.
	MaxWatchers int
	// MaxQueuedWrites and MaxQueuedBytes bound the writes that wait for the disk, in
	// number and by the bytes of their values; 0 means 4,096 and 128 MiB. A write beyond
	// a bound is refused with kv.ErrOverloaded.
	MaxQueuedWrites int
	MaxQueuedBytes  int64
	// Now is the clock; nil means the system clock, or that of an engine which other processes share.
	Now func() time.Time
	// Logger logs failed transactions.
	Logger *slog.Logger
	// Observe, when set, watches the writer's transactions.
	Observe Observe
}

// A Store reads and writes entries. Its methods may be called from many goroutines.
type Store struct {
	db            *database.DB
	cache         *cache.Cache[kv.Entry]
	maxValueBytes int64
	maxVersions   int64
	writer        *writer
	janitor       *janitor
	follower      *follower // nil unless other backends share the database
	diskProbe     *diskProbe
	clock         *clock
	locks         *keyLocks
	log           *log
	watchers      *watchers
	pages         *pages
	restored      atomic.Int64 // the revision with which the last restore or rejoin went on; set under the lock of the log
	counters      counters
	snapshots     chan struct{} // holds one element for each batch of gets that is running
	logger        *slog.Logger

	// erasing is the erasure that is under way, from before its commit until the cache knows.
	erasing atomic.Pointer[erasure]

	// full reports that the last transaction found no room on the disk.
	full atomic.Bool

	hooks hooks
}

// hooks let tests stop the store at the moments where order matters; nil in use.
type hooks struct {
	afterRead   func(kv.Entry)
	afterCommit func()
}

// New returns a store over an open database.
func New(cfg Config) (*Store, error) {
	engine, shared := cfg.Database.Shared()
	totals, mark, err := cfg.Database.Begin(context.Background())
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	lastWrite, err := cfg.Database.LastWrite(context.Background())
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{
		db: cfg.Database, cache: cfg.Cache, maxValueBytes: cfg.MaxValueBytes, maxVersions: int64(cfg.MaxVersions),
		locks:     newKeyLocks(),
		snapshots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), // the other processors are for the writer
		log:       newLog(totals.Revision), pages: newPages(cfg.Database), logger: cfg.Logger,
	}
	s.restored.Store(totals.Restored)
	s.watchers = startWatchers(s.log, s.pages.pacer, cfg.MaxWatchers, &s.counters.cut)
	if shared { // which uses all of the above
		s.follower = startFollower(s, engine, mark)
	}
	switch {
	case cfg.Now != nil:
	case shared:
		cfg.Now = cfg.Database.Now
	default:
		cfg.Now = systemTime
	}
	s.clock = newClock(cfg.Now, lastWrite)
	s.diskProbe = startDiskProbe(cfg.Database, cfg.Logger)
	s.writer = startWriter(s, cfg)
	s.janitor = startJanitor(s, cfg)
	return s, nil
}

// Close refuses new writes, finishes those that were accepted and ends every watch. It
// returns when everything that New started has ended.
func (s *Store) Close() {
	s.EndWatches()
	s.janitor.close()
	s.writer.close()
	s.diskProbe.close()
	if s.follower != nil {
		s.follower.close()
	}
	s.watchers.close()
	s.pages.close()
}

// A task is a goroutine of the store.
type task struct {
	ctx    context.Context //nolint:containedctx // no caller's
	cancel context.CancelFunc
	ended  chan struct{}
}

// startTask starts a task. run must return soon after its context has ended.
func startTask(run func(context.Context)) *task {
	t := &task{ended: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(t.ended)
		run(t.ctx)
	}()
	return t
}

// close ends the task and waits for it.
func (t *task) close() {
	t.cancel()
	<-t.ended
}

// signal makes c hold an element.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it has one already
	}
}

// ID identifies the store for as long as its database exists.
func (s *Store) ID() string { return s.db.StoreID() }

// MaxValueBytes is the size of the largest value that a write accepts.
func (s *Store) MaxValueBytes() int64 { return s.maxValueBytes }

// errClosed is the error of a write to a store that is closing.
var errClosed = fmt.Errorf("%w: the store is closing", kv.ErrUnavailable)
