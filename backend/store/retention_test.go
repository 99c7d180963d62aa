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

// readable returns which of the versions 1 to last of key can be read. A version
// that cannot must be gone.
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
	for i := 1; i <= 600; i++ { // more than one transaction of retention takes
		put(t, all, "many", strconv.Itoa(i))
	}
	put(t, all, "one", "1")
	all.Close()

	s := over(t, db, options{maxKeys: 10, maxBytes: 1000, keep: 3, sweep: time.Hour})
	waitReadable(t, s, "many", 600, 598, 599, 600) // the search at the start
	waitReadable(t, s, "one", 1, 1)
	written := put(t, s, "many", "601")
	if written.Entry.Version != 601 || written.TotalVersions != 4 {
		t.Errorf("the next write is %+v, want version 601 and 4 versions", written)
	}
	waitReadable(t, s, "many", 601, 599, 600, 601) // after the write
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
	clock.Add(time.Hour.Microseconds()) // the latest stays, however old
	put(t, s, "other", "1")
	waitReadable(t, s, "k", 2, 2)
	put(t, s, "k", "3") // and may go when it is not the latest any more
	waitReadable(t, s, "k", 3, 3)
	if written := put(t, s, "k", "4"); written.TotalVersions != 2 {
		t.Errorf("%d versions, want 2", written.TotalVersions)
	}
}

// TestRetentionUnderWrites: no write is lost or misnumbered while versions go.
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
