package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// history writes that many versions of a key, in batches.
func history(t testing.TB, s *store.Store, key string, versions int, value string) {
	t.Helper()
	for versions > 0 {
		n := min(versions, 128)
		changes := make([]store.Change, n)
		for i := range changes {
			changes[i] = putOf(key, value)
		}
		if _, err := s.Batch(t.Context(), nil, changes); err != nil {
			t.Fatal(err)
		}
		versions -= n
	}
}

// TestDestroyKeepsLaterWrites: a client that sees that a key was destroyed and writes it again
// keeps what it wrote, however long the erasing of the history takes.
func TestDestroyKeepsLaterWrites(t *testing.T) {
	for name, versions := range map[string]int{"short": 1, "long": 2500} {
		t.Run(name, func(t *testing.T) {
			var s *store.Store
			var destroying atomic.Bool
			var writing sync.WaitGroup
			var wrote atomic.Int64
			afterCommit := func() {
				if destroying.CompareAndSwap(true, false) { // the first transaction of the destruction
					writing.Go(func() {
						w, err := tryPut(context.Background(), s, "k", `"later"`)
						if err != nil {
							t.Error(err)
						}
						wrote.Store(w.Entry.Version)
					})
					for end := time.Now().Add(10 * time.Second); s.QueueLength() == 0 && time.Now().Before(end); { // the writer must not fail
					}
				}
			}
			s = open(t, options{hooks: store.Hooks{AfterCommit: afterCommit}})
			history(t, s, "k", versions, "1")
			destroying.Store(true)
			_, err := s.DestroyAll(t.Context(), "k", "", atVersion(int64(versions)))
			if err != nil {
				t.Fatal(err)
			}
			writing.Wait()
			if want := int64(versions) + 2; wrote.Load() != want {
				t.Errorf("the write after the tombstone is version %d, want %d", wrote.Load(), want)
			}
			if entry, _ := get(t, s, "k"); string(entry.Value) != `"later"` {
				t.Errorf("the key has %s", entry.Value)
			}
			page, err := s.History(t.Context(), "k", kv.HistoryRequest{Limit: 10})
			if err != nil || len(page.Versions) != 1 || page.TotalVersions != 1 {
				t.Errorf("the history: %+v, %v", page, err)
			}
			if _, _, err := s.GetVersion(t.Context(), "k", 1); !errors.Is(err, kv.ErrVersionGone) {
				t.Errorf("version 1: %v, want ErrVersionGone", err)
			}
			if stats, err := s.DatabaseStats(t.Context()); err != nil || stats.Keys != 1 || stats.Versions != 1 {
				t.Errorf("afterwards: %+v, %v", stats, err)
			}
		})
	}
}

// TestDestroyedKeyIsWrittenByItsWatchers is the same with a race and a condition.
func TestDestroyedKeyIsWrittenByItsWatchers(t *testing.T) {
	s := open(t, options{})
	for round := range 100 {
		key := fmt.Sprint("k", round)
		version := put(t, s, key, "1").Entry.Version
		watch, err := s.Watch(store.WatchRequest{Keys: kv.Prefixes{key}, Since: store.Now, Values: true})
		if err != nil {
			t.Fatal(err)
		}
		var writing sync.WaitGroup
		writing.Go(func() {
			defer watch.Close()
			for {
				delivery, err := watch.Next(context.Background(), time.Minute)
				if err != nil || len(delivery.Entries) == 0 {
					t.Errorf("the watch: %+v, %v", delivery, err)
					return
				}
				if delivery.Entries[0].Operation == kv.OpDestroy {
					if _, err := tryPut(context.Background(), s, key, "2"); err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
		if _, err := s.DestroyAll(t.Context(), key, "", atVersion(version)); err != nil {
			t.Fatal(err)
		}
		writing.Wait()
		if entry, _ := get(t, s, key); string(entry.Value) != "2" {
			t.Fatalf("round %d: the key has %s", round, entry.Value)
		}
	}
}

// TestDestroyInSteps: a destruction takes several short transactions, so a write beside it waits
// for one of them. Large values end a step too.
func TestDestroyInSteps(t *testing.T) {
	for _, c := range []struct {
		name     string
		versions int
		value    string
		destroy  func(*store.Store, int) error
		steps    int64
	}{
		{"a long history", 5000, "1", destroyAll, 5},
		{"large values", 24, strings.Repeat("7", 1<<20), destroyAll, 5},
		{"many versions", 900, "1", destroyVersions, 7},
		{"large versions", 24, strings.Repeat("7", 1<<20), destroyVersions, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			var commits atomic.Int64
			url := databasetest.URL(t)
			s := open(t, options{url: url, hooks: store.Hooks{AfterCommit: func() { commits.Add(1) }}})
			history(t, s, "k", c.versions, c.value)
			commits.Store(0)
			if err := c.destroy(s, c.versions); err != nil {
				t.Fatal(err)
			}
			if got := commits.Load(); got < c.steps {
				t.Errorf("it has taken %d transactions, want at least %d", got, c.steps)
			}
			if _, _, err := s.GetVersion(t.Context(), "k", int64(c.versions)); !errors.Is(err, kv.ErrVersionGone) {
				t.Errorf("the last version: %v", err)
			}
			if stats, err := s.DatabaseStats(t.Context()); err != nil || stats.Versions != 0 {
				t.Errorf("afterwards: %+v, %v", stats, err)
			}
		})
	}
}

func destroyAll(s *store.Store, _ int) error {
	_, err := s.DestroyAll(context.Background(), "k", "", kv.Condition{})
	return err
}

func destroyVersions(s *store.Store, n int) error {
	versions := make([]int64, n)
	for i := range versions {
		versions[i] = int64(i + 1)
	}
	_, err := s.Destroy(context.Background(), "k", versions, kv.Condition{})
	return err
}

// TestErasedVersionsAreGone: the versions of an erased key are gone, also after the key is written
// again.
func TestErasedVersionsAreGone(t *testing.T) {
	s := open(t, options{})
	put(t, s, "k", "1")
	put(t, s, "k", "2")
	if _, err := s.DestroyAll(t.Context(), "k", "", kv.Condition{}); err != nil {
		t.Fatal(err)
	}
	check := func(latest int64) {
		t.Helper()
		for version := int64(1); version <= 3; version++ { // 3 is the tombstone
			_, _, read := s.GetVersion(t.Context(), "k", version)
			_, reverted := s.Write(t.Context(), store.Change{Operation: kv.OpRevert, Key: "k", Version: version})
			_, destroyed := s.Destroy(t.Context(), "k", []int64{version}, kv.Condition{})
			for doing, err := range map[string]error{"read": read, "revert": reverted, "destroy": destroyed} {
				if !errors.Is(err, kv.ErrVersionGone) || !strings.Contains(err.Error(), fmt.Sprintf("version %d was removed", version)) {
					t.Errorf("%s version %d: %v, want ErrVersionGone", doing, version, err)
				}
			}
		}
		if _, _, err := s.GetVersion(t.Context(), "k", latest+1); !errors.Is(err, kv.ErrVersionNotFound) {
			t.Errorf("version %d: %v, want ErrVersionNotFound", latest+1, err)
		}
	}
	check(3)
	if written := put(t, s, "k", "4"); written.Entry.Version != 4 {
		t.Errorf("the next version is %d, want 4", written.Entry.Version)
	}
	check(4)
}
