package store_test

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// readable returns which of the versions 1 to last of key can be read. The others must be
// gone.
func readable(t *testing.T, s *store.Store, key string, last int64) []int64 {
	t.Helper()
	var found []int64
	for version := int64(1); version <= last; version++ {
		entry, _, err := s.GetVersion(t.Context(), key, version)
		switch {
		case err == nil && string(entry.Value) == strconv.FormatInt(version, 10):
			found = append(found, version)
		case !errors.Is(err, kv.ErrVersionGone):
			t.Errorf("GetVersion(%s, %d) = %v, %v", key, version, entry, err)
		}
	}
	if _, _, err := s.GetVersion(t.Context(), key, last+1); !errors.Is(err, kv.ErrVersionNotFound) {
		t.Errorf("GetVersion(%s, %d) = %v, want ErrVersionNotFound", key, last+1, err)
	}
	return found
}

func waitReadable(t *testing.T, s *store.Store, key string, last int64, want ...int64) {
	t.Helper()
	var got []int64
	waitFor(t, func() bool {
		got = readable(t, s, key, last)
		return cmp.Equal(got, want) || t.Failed()
	})
}

func TestRetentionByNumber(t *testing.T) {
	url := databasetest.URL(t)
	db := databasetest.Open(t, url)
	all := over(t, db, options{maxKeys: 10, maxBytes: 1000})
	for i := 1; i <= 600; i++ { // more than one transaction deletes
		put(t, all, "many", strconv.Itoa(i))
	}
	put(t, all, "one", "1")
	all.Close()

	s := over(t, db, options{maxKeys: 10, maxBytes: 1000, keep: 3, sweep: time.Hour})
	waitReadable(t, s, "many", 600, 598, 599, 600) // the search at the start
	waitReadable(t, s, "one", 1, 1)
	written := put(t, s, "many", "601")
	if written.Entry.Version != 601 || written.TotalVersions != 3 {
		t.Errorf("the next write is %+v, want version 601 and 3 versions", written)
	}
	if diff := cmp.Diff([]int64{599, 600, 601}, readable(t, s, "many", 601)); diff != "" { // with the write
		t.Error(diff)
	}
	stats, err := s.DatabaseStats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(kv.Totals{Revision: 602, Keys: 2, Versions: 4, Compacted: 598}, stats.Totals); diff != "" {
		t.Error(diff)
	}
}

func TestRetentionByAge(t *testing.T) {
	var clock atomic.Int64
	clock.Store(time.Hour.Microseconds())
	now := func() time.Time { return time.UnixMicro(clock.Load()) }
	s := open(t, options{now: now, age: time.Minute, sweep: time.Millisecond})
	put(t, s, "k", "1")
	clock.Add((30 * time.Second).Microseconds())
	put(t, s, "k", "2")
	waitReadable(t, s, "k", 2, 1, 2)
	clock.Add((31 * time.Second).Microseconds()) // version 1 is 61 s old
	waitReadable(t, s, "k", 2, 2)
	clock.Add(time.Hour.Microseconds()) // the latest stays whatever its age
	put(t, s, "other", "1")
	waitReadable(t, s, "k", 2, 2)
	put(t, s, "k", "3") // and goes when it is not the latest any more
	waitReadable(t, s, "k", 3, 3)
	if written := put(t, s, "k", "4"); written.TotalVersions != 2 {
		t.Errorf("%d versions, want 2", written.TotalVersions)
	}
}

// TestRetentionUnderWrites: no write is lost or misnumbered while versions are deleted.
func TestRetentionUnderWrites(t *testing.T) {
	const keys, writers, each = 3, 8, 60
	s := open(t, options{keep: 2, sweep: time.Millisecond})
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for i := range each {
				put(t, s, fmt.Sprint("k", i%keys), "1")
			}
		})
	}
	wg.Wait()
	const last = writers * each / keys
	waitFor(t, func() bool {
		stats, err := s.DatabaseStats(t.Context())
		return err != nil || stats.Versions == 2*keys
	})
	for k := range keys {
		if entry, _ := get(t, s, fmt.Sprint("k", k)); entry.Version != last {
			t.Errorf("k%d has version %d, want %d", k, entry.Version, last)
		}
	}
}

// TestRetentionInABatch: of a batch that writes more versions of a key than are kept, the last
// ones stay, and the answers say how many there are.
func TestRetentionInABatch(t *testing.T) {
	s := open(t, options{keep: 2, sweep: time.Hour})
	put(t, s, "k", "1")
	changes := []store.Change{getOf("k")}
	for n := 2; n <= 6; n++ {
		changes = append(changes, putOf("k", strconv.Itoa(n)))
	}
	changes = append(changes, getOf("k"), store.Change{Operation: kv.OpRevert, Key: "k", Version: 3}, putOf("new", "1"), putOf("new", "2"), putOf("new", "3"))
	done, err := s.Batch(t.Context(), nil, changes)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(done.Results[6].Entry.Value); got != "6" {
		t.Errorf("a get within the batch reads %s", got)
	}
	if w := done.Results[7].Written; w.Entry.Version != 7 || w.TotalVersions != 2 {
		t.Errorf("the last write: %+v", w)
	}
	for key, want := range map[string][]int64{"k": {6, 7}, "new": {2, 3}} {
		page, err := s.History(t.Context(), key, kv.HistoryRequest{Limit: 10})
		if err != nil || page.TotalVersions != 2 || len(page.Versions) != 2 || page.Versions[1].Version != want[0] {
			t.Errorf("%s: %+v, %v", key, page, err)
		}
		if _, _, err := s.GetVersion(t.Context(), key, 1); !errors.Is(err, kv.ErrVersionGone) {
			t.Errorf("%s version 1: %v", key, err)
		}
	}
	if entry, _ := get(t, s, "k"); string(entry.Value) != "3" {
		t.Errorf("k has %s", entry.Value)
	}
	if stats, err := s.DatabaseStats(t.Context()); err != nil || stats.Versions != 4 || stats.Keys != 2 {
		t.Errorf("%+v, %v", stats, err)
	}
}

// TestRetentionOfLongHistory: a key that has far too many versions loses a few with each write.
func TestRetentionOfLongHistory(t *testing.T) {
	url := databasetest.URL(t)
	db := databasetest.Open(t, url)
	all := over(t, db, options{})
	history(t, all, "k", 1000, "1")
	all.Close()
	s := over(t, db, options{keep: 10, sweep: time.Hour})
	waitFor(t, func() bool { // the search at the start deletes the rest
		put(t, s, "k", "1")
		stats, err := s.DatabaseStats(t.Context())
		return err != nil || stats.Versions == 10
	})
	if pruned := s.Stats().Pruned; pruned < 990 {
		t.Errorf("%d versions were counted", pruned)
	}
}

// TestEndedKeysGoWhole: a key that ended long enough ago is deleted whole, goes on counting when
// it is written again, and takes no other key with it.
func TestEndedKeysGoWhole(t *testing.T) {
	var clock atomic.Int64
	clock.Store(time.Hour.Microseconds())
	now := func() time.Time { return time.UnixMicro(clock.Load()) }
	s := open(t, options{now: now, age: time.Minute, sweep: time.Millisecond})
	const ended = 300 // more than one transaction takes
	for i := range ended {
		key := fmt.Sprint("ended", i)
		put(t, s, key, "1")
		if _, err := s.Write(t.Context(), store.Change{Operation: kv.OpDelete, Key: key}); err != nil {
			t.Fatal(err)
		}
	}
	history(t, s, "long", 1500, "1")
	if _, err := s.Write(t.Context(), store.Change{Operation: kv.OpDelete, Key: "long"}); err != nil {
		t.Fatal(err)
	}
	put(t, s, "stays", "1")
	clock.Add((30 * time.Second).Microseconds())
	put(t, s, "later", "1")
	if _, err := s.Write(t.Context(), store.Change{Operation: kv.OpDelete, Key: "later"}); err != nil {
		t.Fatal(err)
	}
	clock.Add((31 * time.Second).Microseconds())
	waitFor(t, func() bool {
		stats, err := s.DatabaseStats(t.Context())
		return err != nil || stats.Versions == 3 // of the remaining key, and of the one that ended later
	})
	for _, key := range []string{"ended0", "ended299", "long"} {
		if _, _, err := s.Get(t.Context(), key); !errors.Is(err, kv.ErrKeyNotFound) {
			t.Errorf("%s: %v, want ErrKeyNotFound", key, err)
		}
		if _, _, err := s.GetVersion(t.Context(), key, 1); !errors.Is(err, kv.ErrVersionGone) {
			t.Errorf("%s version 1: %v, want ErrVersionGone", key, err)
		}
	}
	if _, _, err := s.Get(t.Context(), "later"); !errors.Is(err, kv.ErrKeyDeleted) {
		t.Errorf("later: %v, want ErrKeyDeleted", err)
	}
	if written := put(t, s, "ended7", "3"); written.Entry.Version != 3 || !written.Created() {
		t.Errorf("the next write: %+v", written)
	}
	if entry, _ := get(t, s, "stays"); entry.Version != 1 {
		t.Errorf("the key that exists: %+v", entry)
	}
}
