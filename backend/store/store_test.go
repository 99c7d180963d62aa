package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"kvstore/backend/cache"
	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(crashVariable); spec != "" {
		fmt.Fprintln(os.Stderr, crashChild(spec)) // returns only when it has failed
		os.Exit(1)
	}
	goleak.VerifyTestMain(databasetest.Tests{M: m})
}

// options change the store that open makes.
type options struct {
	url      string
	maxKeys  int
	maxBytes int64
	now      func() time.Time
	keep     int
	age      time.Duration
	sweep    time.Duration
	hooks    store.Hooks

	maxWatchers int

	maxQueuedWrites int
	maxQueuedBytes  int64
}

func open(t testing.TB, o options) *store.Store {
	t.Helper()
	if o.url == "" {
		o.url = databasetest.URL(t)
	}
	return over(t, databasetest.Open(t, o.url), o)
}

// over returns a store over db that is closed before db.
func over(t testing.TB, db *database.DB, o options) *store.Store {
	t.Helper()
	if o.maxKeys == 0 {
		o.maxKeys = 100
	}
	if o.maxBytes == 0 {
		o.maxBytes = 1 << 20
	}
	entries, err := cache.New(cache.Config[kv.Entry]{
		MaxKeys: o.maxKeys, MaxBytes: o.maxBytes,
		Size: func(_ string, e kv.Entry) int64 { return e.Size() },
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.New(store.Config{
		Database: db, Cache: entries, MaxValueBytes: 1 << 20, Now: o.now,
		MaxVersions: o.keep, MaxVersionAge: o.age, SweepInterval: o.sweep, MaxWatchers: o.maxWatchers,
		MaxQueuedWrites: o.maxQueuedWrites, MaxQueuedBytes: o.maxQueuedBytes, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.SetHooks(o.hooks)
	t.Cleanup(func() {
		s.Close()
		entries.Close()
	})
	return s
}

// tryPut puts a JSON value.
func tryPut(ctx context.Context, s *store.Store, key, value string) (kv.Written, error) {
	return s.Write(ctx, store.Change{Operation: kv.OpPut, Key: key, Value: []byte(value)})
}

func put(t testing.TB, s *store.Store, key, value string) kv.Written {
	t.Helper()
	written, err := tryPut(t.Context(), s, key, value)
	if err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
	return written
}

func get(t testing.TB, s *store.Store, key string) (kv.Entry, store.Source) {
	t.Helper()
	entry, source, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("Get(%q): %v", key, err)
	}
	return entry, source
}

func TestPutAndGet(t *testing.T) {
	clock := time.UnixMicro(1764000000123456)
	s := open(t, options{now: func() time.Time { return clock }})
	first := put(t, s, "k", "1")
	want := kv.Written{
		Entry:         kv.Entry{Key: "k", Value: []byte("1"), Version: 1, Revision: 1, Time: 1764000000123456, Operation: kv.OpPut},
		TotalVersions: 1,
	}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Error(diff)
	}
	if !first.Created() {
		t.Error("the first write did not create the key")
	}
	put(t, s, "other", "0")
	clock = clock.Add(-time.Hour) // the clock is set back
	second := put(t, s, "k", "2")
	want = kv.Written{
		Entry:         kv.Entry{Key: "k", Value: []byte("2"), Version: 2, Revision: 3, Time: 1764000000123456, Operation: kv.OpPut},
		Previous:      1,
		TotalVersions: 2,
	}
	if diff := cmp.Diff(want, second); diff != "" {
		t.Error(diff)
	}
	if entry, source := get(t, s, "k"); source != store.FromCache || !cmp.Equal(entry, second.Entry) {
		t.Errorf("Get = %v from %s, want %v from the cache", entry, source, second.Entry)
	}
	stats, err := s.DatabaseStats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(kv.Totals{Revision: 3, Keys: 2, Versions: 3}, stats.Totals); diff != "" {
		t.Error(diff)
	}
}

func TestErrors(t *testing.T) {
	s := open(t, options{})
	put(t, s, "k", "1")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		do   func() error
		want error
	}{
		"ErrInvalidKey put": {func() error { _, err := tryPut(t.Context(), s, "a\x00", "1"); return err }, kv.ErrInvalidKey},
		"ErrInvalidKey get": {func() error { _, _, err := s.Get(t.Context(), ""); return err }, kv.ErrInvalidKey},
		"ErrValueTooLarge": {func() error {
			_, err := tryPut(t.Context(), s, "k", strings.Repeat("1", 1<<20+1))
			return err
		}, kv.ErrValueTooLarge},
		"ErrKeyNotFound":     {func() error { _, _, err := s.Get(t.Context(), "none"); return err }, kv.ErrKeyNotFound},
		"ErrVersionNotFound": {func() error { _, _, err := s.GetVersion(t.Context(), "k", 2); return err }, kv.ErrVersionNotFound},
		"canceled put":       {func() error { _, err := tryPut(canceled, s, "k", "2"); return err }, context.Canceled},
		"canceled get":       {func() error { _, _, err := s.Get(canceled, "not cached"); return err }, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			if err := test.do(); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
	t.Run("closed", func(t *testing.T) {
		s.Close()
		if _, err := tryPut(t.Context(), s, "k", "2"); !errors.Is(err, kv.ErrUnavailable) {
			t.Errorf("Put after Close = %v, want ErrUnavailable", err)
		}
	})
	if stats, err := s.DatabaseStats(t.Context()); err != nil || stats.Revision != 1 {
		t.Errorf("revision %d, %v after failed writes, want 1", stats.Revision, err)
	}
}

// TestOldVersionDoesNotDisplace: the predecessor cached an old version that was
// read by number and then served it as the latest.
func TestOldVersionDoesNotDisplace(t *testing.T) {
	s := open(t, options{})
	for i := 1; i <= 3; i++ {
		put(t, s, "k", strconv.Itoa(i))
	}
	for version := int64(1); version <= 3; version++ {
		entry, source, err := s.GetVersion(t.Context(), "k", version)
		if err != nil || string(entry.Value) != strconv.FormatInt(version, 10) {
			t.Errorf("GetVersion(%d) = %v, %v", version, entry, err)
		}
		want := store.FromDatabase
		if version == 3 {
			want = store.FromCache
		}
		if source != want {
			t.Errorf("GetVersion(%d) came from the %s, want the %s", version, source, want)
		}
		if entry, source := get(t, s, "k"); entry.Version != 3 || source != store.FromCache {
			t.Errorf("Get after GetVersion(%d) = version %d from the %s", version, entry.Version, source)
		}
	}
	if stats := s.Stats().Cache; stats.Hits != 4 || stats.Misses != 2 {
		t.Errorf("hits %d, misses %d, want 4 and 2", stats.Hits, stats.Misses)
	}
}

func TestConcurrentWritersOfOneKey(t *testing.T) {
	const clients, writes = 16, 50
	s := open(t, options{})
	var wg sync.WaitGroup
	var seen [clients*writes + 1]atomic.Int32
	for range clients {
		wg.Go(func() {
			last := int64(0)
			for range writes {
				written := put(t, s, "k", "1")
				if written.Entry.Version <= last || written.Entry.Version > clients*writes {
					t.Errorf("version %d after %d", written.Entry.Version, last)
					return
				}
				last = written.Entry.Version
				seen[last].Add(1)
			}
		})
	}
	wg.Wait()
	for version := 1; version <= clients*writes; version++ {
		if n := seen[version].Load(); n != 1 {
			t.Errorf("version %d was given %d times", version, n)
		}
	}
}

// TestRestartContinues: versions, revisions and times go on where they stopped.
func TestRestartContinues(t *testing.T) {
	url := databasetest.URL(t)
	now := time.UnixMicro(2_000_000)
	db := databasetest.Open(t, url)
	s := over(t, db, options{maxKeys: 1, maxBytes: 100, now: func() time.Time { return now }})
	put(t, s, "k", "1")
	put(t, s, "k", "2")
	s.Close()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, options{url: url, now: func() time.Time { return now.Add(-time.Second) }})
	written := put(t, s, "k", "3")
	if written.Entry.Version != 3 || written.Entry.Revision != 3 || written.Entry.Time != 2_000_000 || written.Previous != 2 {
		t.Errorf("after a restart: %+v", written)
	}
}

// TestGroupCommit holds the writer while writes pile up, and checks that they
// become one transaction in the order of the queue.
func TestGroupCommit(t *testing.T) {
	hold, release := make(chan struct{}), make(chan struct{})
	var commits atomic.Int32
	s := open(t, options{hooks: store.Hooks{AfterCommit: func() {
		if commits.Add(1) == 1 {
			close(hold)
			<-release
		}
	}}})
	var wg sync.WaitGroup
	wg.Go(func() { put(t, s, "first", "0") })
	<-hold
	const waiting = 100
	queued := s.QueueLength()
	for i := range waiting {
		wg.Go(func() { put(t, s, "k"+strconv.Itoa(i%10), "1") })
	}
	waitFor(t, func() bool { return s.QueueLength()-queued == waiting })
	close(release)
	wg.Wait()
	if n := commits.Load(); n != 2 {
		t.Errorf("%d writes took %d transactions, want 2", waiting+1, n)
	}
	for i := range 10 {
		if entry, _ := get(t, s, "k"+strconv.Itoa(i)); entry.Version != 10 {
			t.Errorf("k%d has version %d, want 10", i, entry.Version)
		}
	}
}

// TestBadWriteFailsAlone queues, between good writes, one that the database refuses, because
// the version exists already.
func TestBadWriteFailsAlone(t *testing.T) {
	url := databasetest.URL(t)
	db := databasetest.Open(t, url)
	hold, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s := over(t, db, options{maxKeys: 10, maxBytes: 1000, hooks: store.Hooks{AfterCommit: func() {
		once.Do(func() { close(hold); <-release })
	}}})
	breakKey(t, db, "bad")
	var wg sync.WaitGroup
	wg.Go(func() { put(t, s, "first", "0") })
	<-hold
	results := make([]error, 9)
	for i := range results {
		key := "good"
		if i == 4 {
			key = "bad"
		}
		wg.Go(func() { _, results[i] = tryPut(context.Background(), s, key, "1") })
	}
	waitFor(t, func() bool { return s.QueueLength() == len(results) })
	close(release)
	wg.Wait()
	for i, err := range results {
		if bad := i == 4; bad != (err != nil) {
			t.Errorf("write %d: %v", i, err)
		}
	}
	if !errors.Is(results[4], kv.ErrUnavailable) {
		t.Errorf("the bad write got %v, want ErrUnavailable", results[4])
	}
	if entry, _ := get(t, s, "good"); entry.Version != 8 {
		t.Errorf("good has version %d, want 8: no gap, none lost", entry.Version)
	}
	if entry, _ := get(t, s, "bad"); entry.Version != 1 {
		t.Errorf("bad has version %d, want 1", entry.Version)
	}
}

// breakKey stores a key whose head says version 1 while version 2 exists too, so
// that its next write breaks the unique constraint.
func breakKey(t *testing.T, db *database.DB, key string) {
	t.Helper()
	err := db.Update(t.Context(), func(tx *database.Tx) error {
		err := tx.Load(key)
		if err == nil {
			tx.Append(kv.Entry{Key: key, Value: []byte("2"), Version: 2})
			tx.Append(kv.Entry{Key: key, Value: []byte("1"), Version: 1})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCloseFinishesWrites: accepted writes are finished, later ones are refused, and no caller
// waits forever.
func TestCloseFinishesWrites(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	s := over(t, db, options{})
	var wg sync.WaitGroup
	var accepted atomic.Int64
	for range 32 {
		wg.Go(func() {
			for {
				_, err := tryPut(context.Background(), s, "k", "1")
				if errors.Is(err, kv.ErrUnavailable) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				accepted.Add(1)
			}
		})
	}
	waitFor(t, func() bool { return accepted.Load() > 100 })
	s.Close()
	wg.Wait()
	if entry, err := db.Latest(t.Context(), "k"); err != nil || entry.Version != accepted.Load() {
		t.Errorf("%d writes were answered, the latest version is %d, %v", accepted.Load(), entry.Version, err)
	}
}

func raise(to *atomic.Int64, version int64) {
	for {
		old := to.Load()
		if version <= old || to.CompareAndSwap(old, version) {
			return
		}
	}
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); {
		if time.Now().After(deadline) {
			t.Fatal("the condition did not come true in a minute")
		}
	}
}
