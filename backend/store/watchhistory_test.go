package store_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// TestWatchAfterRestore: a feed that resumes from before a restore is told that the history is
// another one, wherever it was, and then gets this history. A new feed is told nothing.
func TestWatchAfterRestore(t *testing.T) {
	url, backup := databasetest.FileURL(t), filepath.Join(t.TempDir(), "backup.db")
	db := databasetest.Open(t, url)
	s := over(t, db, options{maxKeys: 10, maxBytes: 1000})
	put(t, s, "k", "1")
	put(t, s, "quiet/a", "2")
	if _, err := sqlite.Backup(t.Context(), url, sqlite.Target{Name: backup}); err != nil {
		t.Fatal(err)
	}
	put(t, s, "k", "3")
	put(t, s, "k", "4")
	s.Close()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	restored, _, err := sqlite.Restore(t.Context(), backup, url, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s = open(t, options{url: url})
	written := put(t, s, "k", "other 3").Entry
	if written.Version != 2 || written.Revision <= 4 {
		t.Errorf("the first write after the restore is %+v", written)
	}
	last := written.Revision
	for since, held := range map[int64]int{0: 3, 1: 2, 2: 1, 3: 1, 4: 1, last - 2: 1, last - 1: 1} {
		w := watch(t, s, "", since)
		d := next(t, w)
		resumes := since > 0 && since < last-1
		if d.Reset != resumes || (d.Compacted != 0) != resumes || resumes && d.Compacted != restored.Restored {
			t.Errorf("since %d: %+v", since, d)
		}
		if len(d.Entries) != held || d.Entries[held-1].Revision != last || d.Position != last {
			t.Errorf("since %d there come %+v, want %d", since, d, held)
		}
		wantIdle(t, w, last)
	}
	quiet := watch(t, s, "quiet/", 4)
	if d := next(t, quiet); !d.Reset || len(d.Entries) != 0 || d.Position != last {
		t.Errorf("a feed of other keys: %+v", d)
	}
	if _, err := s.Watch(store.WatchRequest{Keys: kv.AllKeys(), Since: last + 1}); !errors.Is(err, kv.ErrFutureRevision) {
		t.Errorf("a revision that nobody has seen: %v", err)
	}
}

// TestWatchesShareReads: feeds that resume at the same revision share the reads of history, and
// the pages that are kept are dropped when something is erased.
func TestWatchesShareReads(t *testing.T) {
	const feeds, events, perPage = 100, 9_000, 4_096
	s := open(t, options{})
	for written := 0; written < events; {
		var changes []store.Change
		for ; written < events && len(changes) < 1000; written++ {
			changes = append(changes, store.Change{Operation: kv.OpPut, Key: "k", Value: []byte("1")})
		}
		if _, err := s.Batch(t.Context(), nil, changes); err != nil {
			t.Fatal(err)
		}
	}
	s.ForgetLog()
	var reading sync.WaitGroup
	for range feeds {
		w := watch(t, s, "", 0)
		reading.Go(func() {
			for next := int64(1); next <= events; {
				d, err := w.Next(context.Background(), patience)
				if err != nil {
					t.Error(err)
					return
				}
				for _, entry := range d.Entries {
					if entry.Revision != next {
						t.Errorf("revision %d comes in the place of %d", entry.Revision, next)
						return
					}
					next++
				}
			}
		})
	}
	reading.Wait()
	if got, want := s.Pages(), events/perPage+1; got != want {
		t.Errorf("%d feeds have read %d pages, want %d", feeds, got, want)
	}
	if _, err := s.Destroy(t.Context(), "k", []int64{1}, kv.Condition{}); err != nil {
		t.Fatal(err)
	}
	if got := s.Pages(); got != 0 {
		t.Errorf("%d pages are kept after an erasure", got)
	}
}
