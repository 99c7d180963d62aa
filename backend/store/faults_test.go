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

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// TestCommitFails: every caller of the transaction gets an error, the cache and the
// database stay as they were, and the next write leaves no gap.
func TestCommitFails(t *testing.T) {
	hold, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	db, faults := databasetest.OpenFaulty(t, databasetest.URL(t))
	s := over(t, db, options{maxKeys: 10, maxBytes: 1000, hooks: store.Hooks{AfterCommit: func() {
		once.Do(func() { close(hold); <-release })
	}}})
	var wg sync.WaitGroup
	wg.Go(func() { put(t, s, "k", "1") })
	<-hold
	results := make([]error, 20)
	for i := range results {
		wg.Go(func() { _, results[i] = tryPut(context.Background(), s, "k", "2") })
	}
	waitFor(t, func() bool { return s.QueueLength() == len(results) })
	faults.FailCommits(1)
	close(release)
	wg.Wait()
	for i, err := range results {
		if !errors.Is(err, kv.ErrUnavailable) {
			t.Errorf("caller %d got %v, want ErrUnavailable", i, err)
		}
	}
	if entry, source := get(t, s, "k"); entry.Version != 1 || source != store.FromCache {
		t.Errorf("the cache answers version %d from the %s, want 1 from the cache", entry.Version, source)
	}
	if after := s.Stats().Cache; after.Keys != 1 {
		t.Errorf("the cache has %d keys, want k alone", after.Keys)
	}
	if stats, err := s.DatabaseStats(t.Context()); err != nil || !cmp.Equal(stats.Totals, kv.Totals{Revision: 1, Keys: 1, Versions: 1}) {
		t.Errorf("after the failure: %+v, %v", stats, err)
	}
	if written := put(t, s, "k", "3"); written.Entry.Version != 2 || written.Entry.Revision != 2 {
		t.Errorf("the next write is %+v, want version 2 and revision 2", written)
	}
}

// TestDiskFull: writes are refused with the reason, reads go on, and writes work again when
// there is room.
func TestDiskFull(t *testing.T) {
	db, faults := databasetest.OpenFaulty(t, databasetest.URL(t))
	s := over(t, db, options{maxKeys: 1, maxBytes: 1 << 20})
	large := strconv.Quote(strings.Repeat("x", 100_000))
	put(t, s, "a", large)
	put(t, s, "b", "1")
	faults.FillDisk(t)
	for range 3 {
		if _, err := tryPut(t.Context(), s, "a", large); !errors.Is(err, kv.ErrStorageFull) {
			t.Fatalf("Put on a full disk = %v, want ErrStorageFull", err)
		}
	}
	for key, want := range map[string]string{"a": large, "b": "1"} {
		if entry, _ := get(t, s, key); string(entry.Value) != want || entry.Version != 1 {
			t.Errorf("%s on a full disk has version %d", key, entry.Version)
		}
	}
	faults.EmptyDisk(t)
	if written := put(t, s, "a", large); written.Entry.Version != 2 || written.Entry.Revision != 3 {
		t.Errorf("with room again: version %d, revision %d, want 2 and 3", written.Entry.Version, written.Entry.Revision)
	}
}

// TestBigWriteOnFullDiskFailsAlone: small writes succeed in the same transaction as one for
// which the disk has no room.
func TestBigWriteOnFullDiskFailsAlone(t *testing.T) {
	hold, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	db, faults := databasetest.OpenFaulty(t, databasetest.URL(t))
	s := over(t, db, options{maxKeys: 10, maxBytes: 1 << 20, hooks: store.Hooks{AfterCommit: func() {
		once.Do(func() { close(hold); <-release })
	}}})
	var wg sync.WaitGroup
	wg.Go(func() { put(t, s, "k", "1") })
	<-hold
	results := make([]error, 5)
	for i := range results {
		value := "2"
		if i == 2 {
			value = strconv.Quote(strings.Repeat("x", 100_000))
		}
		wg.Go(func() { _, results[i] = tryPut(context.Background(), s, "k", value) })
	}
	waitFor(t, func() bool { return s.QueueLength() == len(results) })
	faults.FillDisk(t)
	close(release)
	wg.Wait()
	for i, err := range results {
		if i == 2 && !errors.Is(err, kv.ErrStorageFull) || i != 2 && err != nil {
			t.Errorf("write %d: %v", i, err)
		}
	}
	if entry, _ := get(t, s, "k"); entry.Version != 5 {
		t.Errorf("k has version %d, want 5", entry.Version)
	}
}

// TestBeginFailsOnce: when a transaction cannot begin, its writes are not tried one by one.
func TestBeginFailsOnce(t *testing.T) {
	const writes = 64
	hold, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	url := databasetest.URL(t)
	db, faults := databasetest.OpenFaulty(t, url)
	s := over(t, db, options{hooks: store.Hooks{AfterCommit: func() { once.Do(func() { close(hold); <-release }) }}})
	patience := faults.LimitWait(t, 300*time.Millisecond)
	var waiting sync.WaitGroup
	waiting.Go(func() { put(t, s, "k", "1") })
	<-hold
	failures := make([]error, writes)
	for i := range writes {
		waiting.Go(func() { _, failures[i] = tryPut(context.Background(), s, fmt.Sprint(i), "1") })
	}
	waitFor(t, func() bool { return s.QueueLength() == writes })
	unlock := databasetest.LockWrites(t, url)
	began := time.Now()
	close(release)
	waiting.Wait()
	if took := time.Since(began); took > writes/4*patience {
		t.Errorf("the %d writes have waited %s for a lock, of which each may wait %s", writes, took, patience)
	}
	for i, err := range failures {
		if !errors.Is(err, kv.ErrUnavailable) {
			t.Fatalf("write %d: %v, want ErrUnavailable", i, err)
		}
	}
	unlock()
	put(t, s, "k", "2")
}

// TestPanicAfterCommit: a committed write is answered, read and watched.
func TestPanicAfterCommit(t *testing.T) {
	var armed atomic.Bool
	s := open(t, options{hooks: store.Hooks{AfterCommit: func() {
		if armed.CompareAndSwap(true, false) {
			panic("a defect")
		}
	}}})
	put(t, s, "k", "1")
	watch, err := s.Watch(store.WatchRequest{Keys: kv.AllKeys(), Since: store.Now, Values: true})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	armed.Store(true)
	if written := put(t, s, "k", "2"); written.Entry.Version != 2 {
		t.Errorf("written: %+v", written)
	}
	if entry, _ := get(t, s, "k"); string(entry.Value) != "2" {
		t.Errorf("read: %s", entry.Value)
	}
	delivery, err := watch.Next(t.Context(), time.Minute)
	if err != nil || len(delivery.Entries) != 1 || delivery.Entries[0].Version != 2 {
		t.Errorf("watched: %+v, %v", delivery, err)
	}
	if written := put(t, s, "k", "3"); written.Entry.Version != 3 || written.Entry.Revision != 3 {
		t.Errorf("the next write: %+v", written)
	}
}

// TestGetsBesideTheWriter: a batch of gets waits for no transaction and reads all keys at one
// revision.
func TestGetsBesideTheWriter(t *testing.T) {
	url := databasetest.URL(t)
	s := open(t, options{url: url})
	put(t, s, "a", "1")
	put(t, s, "b", "1")
	if _, err := s.Write(t.Context(), store.Change{Operation: kv.OpDelete, Key: "b"}); err != nil {
		t.Fatal(err)
	}
	unlock := databasetest.LockWrites(t, url)
	var waiting sync.WaitGroup
	waiting.Go(func() { put(t, s, "a", "2") })
	waitFor(t, func() bool { return s.Disk().Committing > 0 })
	done, err := s.Batch(t.Context(), []store.Requirement{{Key: "a", If: atVersion(1)}}, []store.Change{getOf("a"), getOf("b"), getOf("none")})
	if s.Disk().Committing == 0 {
		t.Error("the batch has waited for the write")
	}
	if err != nil || done.Revision != 3 || string(done.Results[0].Entry.Value) != "1" ||
		!errors.Is(done.Results[1].Err, kv.ErrKeyDeleted) || !errors.Is(done.Results[2].Err, kv.ErrKeyNotFound) {
		t.Errorf("%+v, %v", done, err)
	}
	if _, err := s.Batch(t.Context(), []store.Requirement{{Key: "a", If: atVersion(2)}}, []store.Change{getOf("a")}); !errors.Is(err, kv.ErrPreconditionFailed) {
		t.Errorf("a condition that does not hold: %v", err)
	}
	unlock()
	waiting.Wait()
	if done, err := s.Batch(t.Context(), nil, []store.Change{getOf("a")}); err != nil || done.Revision != 4 || string(done.Results[0].Entry.Value) != "2" {
		t.Errorf("after the write: %+v, %v", done, err)
	}
}
