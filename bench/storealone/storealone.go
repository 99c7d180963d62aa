// Package storealone writes to the backend's store in this process, without HTTP, and checks its
// answers and its contents.
package storealone

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mattn/go-sqlite3"

	"kvstore/backend/cache"
	"kvstore/backend/database"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/kv"
	"kvstore/backend/store"
	"kvstore/bench/generator"
)

// A Store is an open store with what it has acknowledged. Run and Verify are not safe for concurrent
// use.
type Store struct {
	db      *database.DB
	cache   *cache.Cache[kv.Entry]
	store   *store.Store
	commits atomic.Int64

	load   generator.Load
	issued atomic.Uint64 // the last sequence number in a value
	acked  []atomic.Pointer[kv.Written]
	writes atomic.Int64 // acknowledged
}

// Open opens a new store in a directory, with the default settings of the backend. Problems are logged
// to logs.
func Open(ctx context.Context, dir string, logs io.Writer) (*Store, error) {
	s := &Store{load: generator.Load{Name: "store", Keys: 1000, PutShare: 1}}
	s.acked = make([]atomic.Pointer[kv.Written], s.load.Keys)
	logger := slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var err error
	s.db, err = sqlite.Open(ctx, sqlite.Config{
		URL: "sqlite:" + filepath.Join(dir, "kv_store.db"), Logger: logger, ConnectHook: s.countCommits,
	})
	if err != nil {
		return nil, err
	}
	s.cache, err = cache.New(cache.Config[kv.Entry]{
		MaxKeys: 100, MaxBytes: 64 << 20, // the defaults of the backend
		Size: func(_ string, e kv.Entry) int64 { return e.Size() },
	})
	if err != nil {
		return nil, errors.Join(err, s.db.Close())
	}
	s.store, err = store.New(store.Config{Database: s.db, Cache: s.cache, MaxValueBytes: 1 << 20, Logger: logger})
	if err != nil {
		s.cache.Close()
		return nil, errors.Join(err, s.db.Close())
	}
	return s, nil
}

func (s *Store) countCommits(conn driver.Conn) error {
	c, ok := conn.(*sqlite3.SQLiteConn)
	if !ok {
		return fmt.Errorf("the connection is a %T", conn)
	}
	c.RegisterCommitHook(func() int { s.commits.Add(1); return 0 })
	return nil
}

// Commits returns the number of transactions that wrote something so far.
func (s *Store) Commits() int64 { return s.commits.Load() }

// Writes returns the number of acknowledged writes so far.
func (s *Store) Writes() int64 { return s.writes.Load() }

// Close closes the store and its database.
func (s *Store) Close() error {
	s.store.Close()
	s.cache.Close()
	return s.db.Close()
}

// Run writes with that many callers for a duration. Each caller waits for its answer before it writes
// again. A wrong answer is a *generator.WrongError. The same seed gives the same keys.
func (s *Store) Run(ctx context.Context, callers int, d time.Duration, seed uint64) (generator.Result, error) {
	results := make([]generator.Result, callers)
	errs := make([]error, callers)
	var group sync.WaitGroup
	start := time.Now()
	for i := range callers {
		group.Go(func() {
			pick := s.load.NewPicker(seed<<16 + uint64(i))
			errs[i] = s.writeUntil(ctx, start.Add(d), pick, &results[i])
		})
	}
	group.Wait()
	var total generator.Result
	for i := range results {
		total.Merge(&results[i])
	}
	total.Elapsed = time.Since(start)
	return total, errors.Join(errs...)
}

func (s *Store) writeUntil(ctx context.Context, end time.Time, pick generator.Picker, result *generator.Result) error {
	for now := time.Now(); now.Before(end); {
		key, _ := pick()
		name := s.load.Key(key)
		value := generator.AppendValue(nil, name, s.issued.Add(1))
		before := s.acked[key].Load()
		written, err := s.store.Write(ctx, store.Change{Operation: kv.OpPut, Key: name, Value: value})
		if err != nil {
			return err
		}
		after := time.Now()
		if before != nil && written.Entry.Version <= before.Entry.Version || written.Entry.Key != name {
			return &generator.WrongError{What: fmt.Sprintf("%s: version %d was answered after version %d", name, written.Entry.Version, before.Entry.Version)}
		}
		s.acknowledge(key, &written)
		result.Requests++
		result.Latency.Add(after.Sub(now))
		now = after
	}
	return nil
}

// acknowledge records the write with the highest version of a key.
func (s *Store) acknowledge(key int, written *kv.Written) {
	s.writes.Add(1)
	for {
		known := s.acked[key].Load()
		if known != nil && known.Entry.Version >= written.Entry.Version {
			return
		}
		if s.acked[key].CompareAndSwap(known, written) {
			return
		}
	}
}

// Verify compares the contents with what was acknowledged.
func (s *Store) Verify(ctx context.Context) error {
	stats, err := s.store.DatabaseStats(ctx)
	if err != nil {
		return err
	}
	if writes := s.writes.Load(); stats.Versions != writes || stats.Revision != writes {
		return &generator.WrongError{What: fmt.Sprintf("%d writes were acknowledged; the store has %d versions and revision %d", writes, stats.Versions, stats.Revision)}
	}
	for key := range s.acked {
		want := s.acked[key].Load()
		if want == nil {
			continue
		}
		got, err := s.db.Latest(ctx, want.Entry.Key)
		if err != nil {
			return err
		}
		if got.Version != want.Entry.Version || string(got.Value) != string(want.Entry.Value) {
			return &generator.WrongError{What: fmt.Sprintf("%s: version %d is stored, %d was acknowledged last, or its value differs", got.Key, got.Version, want.Entry.Version)}
		}
	}
	return nil
}
