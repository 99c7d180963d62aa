package store_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// A testClock moves only when the test moves it.
type testClock struct{ micros atomic.Int64 }

func newTestClock(micros int64) *testClock {
	c := &testClock{}
	c.micros.Store(micros)
	return c
}

func (c *testClock) now() time.Time          { return time.UnixMicro(c.micros.Load()) }
func (c *testClock) timestamp() kv.Timestamp { return kv.Timestamp(c.micros.Load()) }
func (c *testClock) add(d time.Duration)     { c.micros.Add(d.Microseconds()) }

func putFor(t *testing.T, s *store.Store, key string, ttl time.Duration) kv.Written {
	t.Helper()
	written, err := s.Write(t.Context(), store.Change{Operation: kv.OpPut, Key: key, Value: []byte("1"), TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	return written
}

func isDeleted(t *testing.T, s *store.Store, key string) bool {
	t.Helper()
	_, _, err := s.Get(t.Context(), key)
	if err != nil && !errors.Is(err, kv.ErrKeyDeleted) {
		t.Fatal(err)
	}
	return err != nil
}

// TestExpiry: the key ends with the clock, for reads from the cache and from the database, and
// the tombstone follows without a request.
func TestExpiry(t *testing.T) {
	clock := newTestClock(1_000_000)
	s := open(t, options{now: clock.now, maxKeys: 1})
	written := putFor(t, s, "k", time.Minute)
	if want := kv.Timestamp(61_000_000); written.Entry.Expires != want {
		t.Errorf("expires at %d, want %d", written.Entry.Expires, want)
	}
	clock.add(time.Minute - time.Microsecond)
	if entry, source := get(t, s, "k"); entry.Version != 1 || source != store.FromCache {
		t.Errorf("before its end: %v from the %s", entry, source)
	}
	clock.add(time.Microsecond)
	if !isDeleted(t, s, "k") {
		t.Error("the cache serves an expired key")
	}
	put(t, s, "other", "1") // k leaves the cache
	if !isDeleted(t, s, "k") {
		t.Error("the database serves an expired key")
	}
	waitFor(t, func() bool {
		stats, err := s.DatabaseStats(t.Context())
		return err != nil || stats.Keys == 1
	})
	if _, _, err := s.GetVersion(t.Context(), "k", 2); !errors.Is(err, kv.ErrKeyDeleted) {
		t.Errorf("the tombstone: %v", err)
	}
	if entry, _, err := s.GetVersion(t.Context(), "k", 1); err != nil || entry.Version != 1 {
		t.Errorf("the expired version by its number: %v", err)
	}
	if written := put(t, s, "k", "3"); written.Entry.Version != 3 || !written.Created() {
		t.Errorf("the next write is %+v, want the creation of version 3", written)
	}
}

// TestWriteOverExpired: a write that comes before the janitor appends the tombstone
// itself, and finds no key. Whichever of the two comes first, the history is the same.
func TestWriteOverExpired(t *testing.T) {
	clock := newTestClock(1_000_000)
	s := open(t, options{now: clock.now})
	for i := range int64(20) {
		key := "k" + strconv.FormatInt(i, 10)
		putFor(t, s, key, time.Second)
		clock.add(time.Second)
		absent := store.Change{Operation: kv.OpPut, Key: key, Value: []byte("3"), If: kv.Condition{Absent: true}}
		written, err := s.Write(t.Context(), absent)
		if err != nil || written.Entry.Version != 3 || !written.Created() || written.TotalVersions != 3 {
			t.Fatalf("a write over an expired key: %+v, %v", written, err)
		}
		if _, _, err := s.GetVersion(t.Context(), key, 2); !errors.Is(err, kv.ErrKeyDeleted) {
			t.Errorf("version 2: %v, want a tombstone", err)
		}
	}
}

// TestClockSetBack: a key that has expired stays so, also after a restart, and times do not run
// backwards.
func TestClockSetBack(t *testing.T) {
	url := databasetest.URL(t)
	clock := newTestClock(time.Hour.Microseconds())
	db := databasetest.Open(t, url)
	s := over(t, db, options{maxKeys: 10, maxBytes: 1000, now: clock.now})
	putFor(t, s, "short", time.Minute)
	putFor(t, s, "long", 2*time.Hour)
	clock.add(time.Minute) // forward over the end of short
	if !isDeleted(t, s, "short") {
		t.Error("short has not ended")
	}
	clock.add(-30 * time.Minute)
	for range 100 {
		if !isDeleted(t, s, "short") {
			t.Fatal("short is back to life")
		}
	}
	last := put(t, s, "k", "1").Entry.Time
	if last < kv.Timestamp((time.Hour + time.Minute).Microseconds()) {
		t.Errorf("a write after the clock was set back has the time %d", last)
	}
	waitFor(t, func() bool { // the tombstone is written although the clock is behind
		stats, err := s.DatabaseStats(t.Context())
		return err != nil || stats.Keys == 2
	})
	s.Close()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	clock.add(-20 * time.Minute)
	s = open(t, options{url: url, now: clock.now})
	if !isDeleted(t, s, "short") {
		t.Error("short is back to life after a restart")
	}
	if next := put(t, s, "k", "2").Entry.Time; next < last {
		t.Errorf("the time of a write after a restart is %d, before it was %d", next, last)
	}
	if isDeleted(t, s, "long") {
		t.Error("long has ended early")
	}
	clock.add(4 * time.Hour)
	if !isDeleted(t, s, "long") {
		t.Error("long has not ended")
	}
}

// TestExpiryWithFailingDatabase: reads do not need the tombstone, and it is written when
// the database works again, at the latest by the next write.
func TestExpiryWithFailingDatabase(t *testing.T) {
	clock := newTestClock(1_000_000)
	db, faults := databasetest.OpenFaulty(t, databasetest.URL(t))
	s := over(t, db, options{maxKeys: 10, maxBytes: 1000, now: clock.now})
	putFor(t, s, "k", time.Minute)
	putFor(t, s, "swept", time.Minute)
	faults.FailCommits(2) // those of the janitor; nothing else is written
	clock.add(time.Minute)
	if !isDeleted(t, s, "k") {
		t.Error("the key has not ended")
	}
	waitFor(t, func() bool { return faults.Failed() > 0 })
	faults.FailCommits(0)
	if written := put(t, s, "k", "3"); written.Entry.Version != 3 {
		t.Errorf("the next write is version %d, want 3", written.Entry.Version)
	}
	waitFor(t, func() bool {
		stats, err := s.DatabaseStats(t.Context())
		return err != nil || stats.Keys == 1
	})
}

// TestOneWinner: of many writers with the same condition one succeeds, and the others learn
// the version that it wrote.
func TestOneWinner(t *testing.T) {
	const writers, rounds = 24, 20
	s := open(t, options{})
	version := int64(0)
	for range rounds {
		condition := kv.Condition{OneOf: []int64{version}}
		if version == 0 {
			condition = kv.Condition{Absent: true}
		}
		var wins atomic.Int64
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				_, err := s.Write(t.Context(), store.Change{Operation: kv.OpPut, Key: "k", Value: []byte("1"), If: condition})
				var failed *kv.PreconditionError
				switch {
				case err == nil:
					wins.Add(1)
				case !errors.As(err, &failed) || failed.Current != version+1:
					t.Errorf("a loser got %v", err)
				}
			})
		}
		wg.Wait()
		if wins.Load() != 1 {
			t.Fatalf("%d of %d writers won", wins.Load(), writers)
		}
		version++
	}
}

// TestLateFillOfDeleted: a read that got a version before it was deleted, destroyed
// or erased must not fill the cache with it.
func TestLateFillOfDeleted(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(ctx context.Context, s *store.Store) error
		want error
	}{
		"delete": {func(ctx context.Context, s *store.Store) error {
			_, err := s.Write(ctx, store.Change{Operation: kv.OpDelete, Key: "k"})
			return err
		}, kv.ErrKeyDeleted},
		"destroy": {func(ctx context.Context, s *store.Store) error {
			_, err := s.Destroy(ctx, "k", []int64{1}, kv.Condition{})
			return err
		}, kv.ErrVersionGone},
		"destroy all": {func(ctx context.Context, s *store.Store) error {
			_, err := s.DestroyAll(ctx, "k", "", kv.Condition{})
			return err
		}, kv.ErrKeyNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			s, read, resume := openHeldRead(t)
			var wg sync.WaitGroup
			wg.Go(func() {
				if entry, _, err := s.Get(t.Context(), "k"); err != nil || entry.Version != 1 {
					t.Errorf("the read that began before: %v, %v", entry, err)
				}
			})
			<-read
			if err := c.end(t.Context(), s); err != nil {
				t.Error(err)
			}
			close(resume)
			wg.Wait()
			for range 2 {
				if _, _, err := s.Get(t.Context(), "k"); !errors.Is(err, c.want) {
					t.Errorf("Get = %v, want %v", err, c.want)
				}
				if _, _, err := s.GetVersion(t.Context(), "k", 1); name != "delete" && err == nil {
					t.Error("the version can be read by its number")
				}
			}
		})
	}
}

// TestUnpublishedDeletionIsNotRead holds the writer between the commit of a deletion
// and the cache. A read that sees the deletion in the database waits, since the cache
// still gives others the value.
func TestUnpublishedDeletionIsNotRead(t *testing.T) {
	committed, publish := make(chan struct{}), make(chan struct{})
	var hold atomic.Bool
	readDone := make(chan struct{}, 1)
	s := open(t, options{url: databasetest.FileURL(t), hooks: store.Hooks{
		AfterCommit: func() {
			if hold.CompareAndSwap(true, false) {
				close(committed)
				<-publish
			}
		},
		AfterRead: func(kv.Entry) { readDone <- struct{}{} },
	}})
	put(t, s, "k", "1")
	hold.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.Write(t.Context(), store.Change{Operation: kv.OpDelete, Key: "k"}); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		<-committed
		if _, _, err := s.GetVersion(t.Context(), "k", 2); !errors.Is(err, kv.ErrKeyDeleted) {
			t.Errorf("GetVersion(2) = %v", err)
		}
		select {
		case <-publish:
		default:
			t.Error("the deletion was answered before it was published")
		}
	})
	<-readDone
	if entry, source := get(t, s, "k"); entry.Version != 1 || source != store.FromCache {
		t.Errorf("before publishing: version %d from the %s, want 1 from the cache", entry.Version, source)
	}
	close(publish)
	wg.Wait()
	if !isDeleted(t, s, "k") {
		t.Error("the cache serves a deleted key")
	}
}

// TestExpiredNamesNoFutureVersion: before the tombstone of an expired key is written, no error
// names its version.
func TestExpiredNamesNoFutureVersion(t *testing.T) {
	clock := newTestClock(1_000_000)
	s := open(t, options{now: clock.now})
	batched := func(c store.Change) error {
		done, err := s.Batch(t.Context(), nil, []store.Change{c})
		if err != nil {
			return err
		}
		return done.Results[0].Err
	}
	ways := map[string]func(key string) error{
		"get":      func(key string) error { _, _, err := s.Get(t.Context(), key); return err },
		"get at":   func(key string) error { _, _, err := s.GetAt(t.Context(), key, clock.timestamp()); return err },
		"batch":    func(key string) error { return batched(getOf(key)) },
		"delete":   func(key string) error { return batched(store.Change{Operation: kv.OpDelete, Key: key}) },
		"revert 2": func(key string) error { return batched(store.Change{Operation: kv.OpRevert, Key: key, Version: 2}) },
		"patch":    func(key string) error { return batched(store.Change{Operation: kv.OpPatch, Key: key, Version: 1}) },
	}
	told := 0
	for name, way := range ways {
		for i := range 10 {
			key := fmt.Sprint(name, i)
			putFor(t, s, key, time.Minute)
			clock.add(time.Minute)
			expired := fmt.Sprintf("Key '%s' expired at %s", key, clock.timestamp().AppendJSON(nil))
			err := way(key)
			_, _, second := s.GetVersion(t.Context(), key, 2) // the janitor may be faster now and then
			switch {
			case strings.HasSuffix(err.Error(), expired), strings.HasSuffix(err.Error(), "version 2 not found"):
				told++
			case !errors.Is(second, kv.ErrKeyDeleted):
				t.Errorf("%s: %v, but version 2 is not there: %v", name, err, second)
			}
		}
	}
	if told == 0 {
		t.Error("each tombstone was there at once")
	}
}
