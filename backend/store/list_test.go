package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// manualClock is a clock that the test moves.
type manualClock struct{ micros atomic.Int64 }

func newClock(micros int64) *manualClock {
	c := &manualClock{}
	c.micros.Store(micros)
	return c
}

func (c *manualClock) now() time.Time { return time.UnixMicro(c.micros.Load()) }

func change(t *testing.T, s *store.Store, c store.Change) kv.Written {
	t.Helper()
	written, err := s.Write(t.Context(), c)
	if err != nil {
		t.Fatalf("%+v: %v", c, err)
	}
	return written
}

// TestGetAt reads one key at every moment of its history, with and without the latest version
// in the cache.
func TestGetAt(t *testing.T) {
	clock := newClock(100)
	s := open(t, options{now: clock.now, maxKeys: 1})
	put(t, s, "k", "1") // at 100
	clock.micros.Store(200)
	put(t, s, "k", "2")
	put(t, s, "k", "3") // at 200 too
	clock.micros.Store(300)
	change(t, s, store.Change{Operation: kv.OpDelete, Key: "k"}) // version 4
	clock.micros.Store(400)
	change(t, s, store.Change{Operation: kv.OpPut, Key: "k", Value: []byte("5"), TTL: 50 * time.Microsecond})
	clock.micros.Store(1000)
	put(t, s, "k", "7") // version 6 is the tombstone of 5, which expired at 450
	if _, err := s.Destroy(t.Context(), "k", []int64{1}, kv.Condition{}); err != nil {
		t.Fatal(err)
	}
	for _, cached := range []bool{true, false} {
		get(t, s, "k") // into the cache again
		if !cached {
			put(t, s, "other", "0") // takes the only place
		}
		for _, test := range []struct {
			at      kv.Timestamp
			version int64
			err     error
		}{
			{0, 0, kv.ErrVersionNotFound}, {99, 0, kv.ErrVersionNotFound},
			{100, 0, kv.ErrVersionGone}, {199, 0, kv.ErrVersionGone},
			{200, 3, nil}, {299, 3, nil},
			{300, 0, kv.ErrKeyDeleted}, {399, 0, kv.ErrKeyDeleted},
			{400, 5, nil}, {449, 5, nil},
			{450, 0, kv.ErrKeyDeleted}, {999, 0, kv.ErrKeyDeleted},
			{1000, 7, nil}, {1e15, 7, nil},
		} {
			entry, source, err := s.GetAt(t.Context(), "k", test.at)
			if entry.Version != test.version || !errors.Is(err, test.err) {
				t.Errorf("GetAt(%d) = version %d, %v, want %d, %v", test.at, entry.Version, err, test.version, test.err)
			}
			want := store.FromDatabase
			if cached && test.version == 7 {
				want = store.FromCache
			}
			if err == nil && source != want {
				t.Errorf("GetAt(%d) comes from the %s, want the %s", test.at, source, want)
			}
		}
	}
	for key, want := range map[string]error{"none": kv.ErrKeyNotFound, "": kv.ErrInvalidKey} {
		if _, _, err := s.GetAt(t.Context(), key, 1); !errors.Is(err, want) {
			t.Errorf("GetAt of %q: %v, want %v", key, err, want)
		}
	}
}

// TestGetAtFutureTime: a future time counts as now, so a key that will expire is there.
func TestGetAtFutureTime(t *testing.T) {
	clock := newClock(100)
	s := open(t, options{now: clock.now})
	change(t, s, store.Change{Operation: kv.OpPut, Key: "k", Value: []byte("1"), TTL: time.Second})
	if entry, _, err := s.GetAt(t.Context(), "k", 1e15); err != nil || entry.Version != 1 {
		t.Errorf("before its end: %+v, %v", entry, err)
	}
	clock.micros.Store(2_000_000)
	if _, _, err := s.GetAt(t.Context(), "k", 1e15); !errors.Is(err, kv.ErrKeyDeleted) {
		t.Errorf("after its end: %v, want ErrKeyDeleted", err)
	}
	if entry, _, err := s.GetAt(t.Context(), "k", 1_000_000); err != nil || entry.Version != 1 {
		t.Errorf("of a time before its end: %+v, %v", entry, err)
	}
}

func TestHistory(t *testing.T) {
	s := open(t, options{})
	put(t, s, "k", `"one"`)
	put(t, s, "k", "22")
	change(t, s, store.Change{Operation: kv.OpDelete, Key: "k", Author: "ann"})
	if _, err := s.Destroy(t.Context(), "k", []int64{1}, kv.Condition{}); err != nil {
		t.Fatal(err)
	}
	page, err := s.History(t.Context(), "k", kv.HistoryRequest{Limit: 10, Values: true})
	if err != nil || len(page.Versions) != 3 || page.TotalVersions != 2 {
		t.Fatalf("%+v, %v", page, err)
	}
	last, second, first := page.Versions[0], page.Versions[1], page.Versions[2]
	if last.Operation != kv.OpDelete || last.Author != "ann" || last.Bytes != 0 {
		t.Errorf("the tombstone: %+v", last)
	}
	if string(second.Value) != "22" || second.Bytes != 2 || second.Destroyed {
		t.Errorf("version 2: %+v", second)
	}
	if !first.Destroyed || first.Bytes != 0 || len(first.Value) != 0 {
		t.Errorf("the destroyed version: %+v", first)
	}
	if _, err := s.DestroyAll(t.Context(), "k", "", kv.Condition{}); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]error{"k": kv.ErrKeyNotFound, "none": kv.ErrKeyNotFound, "": kv.ErrInvalidKey} {
		if _, err := s.History(t.Context(), key, kv.HistoryRequest{Limit: 1}); !errors.Is(err, want) {
			t.Errorf("History of %q: %v, want %v", key, err, want)
		}
	}
}

func TestHistoryPageIsBounded(t *testing.T) {
	s := open(t, options{})
	value := slices.Repeat([]byte("1"), 1<<20)
	for range 6 {
		put(t, s, "k", string(value))
	}
	page, err := s.History(t.Context(), "k", kv.HistoryRequest{Limit: 100, Values: true})
	if err != nil || len(page.Versions) != 3 || page.NextBefore != 4 {
		t.Errorf("a page has %d versions of 1 MiB, next_before %d, %v", len(page.Versions), page.NextBefore, err)
	}
}

// TestListsWaitForPublishing holds a write between its commit and its publishing, and
// checks that no list shows it before a GET would.
func TestListsWaitForPublishing(t *testing.T) {
	for name, read := range map[string]func(*testing.T, *store.Store) int64{
		"history": func(t *testing.T, s *store.Store) int64 {
			page, err := s.History(t.Context(), "k", kv.HistoryRequest{Limit: 1})
			if err != nil {
				t.Error(err)
				return 0
			}
			return page.Versions[0].Version
		},
		"keys": func(t *testing.T, s *store.Store) int64 {
			page, err := s.Keys(t.Context(), kv.KeysRequest{Limit: 1})
			if err != nil {
				t.Error(err)
				return 0
			}
			return page.Keys[0].Latest.Version
		},
		"at": func(t *testing.T, s *store.Store) int64 {
			entry, _, err := s.GetAt(t.Context(), "k", 20) // the cached version is later
			if err != nil {
				t.Error(err)
			}
			return entry.Version
		},
	} {
		t.Run(name, func(t *testing.T) {
			var holding atomic.Bool
			committed, release, readDone := make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
			clock := newClock(10)
			s := open(t, options{url: databasetest.FileURL(t), now: clock.now, maxKeys: 1, hooks: store.Hooks{
				AfterCommit: func() {
					if holding.CompareAndSwap(true, false) {
						close(committed)
						<-release
					}
				},
				AfterRead: func(kv.Entry) {
					select {
					case readDone <- struct{}{}:
					default:
					}
				},
			}})
			put(t, s, "k", "1")
			if name == "at" { // else the cache would rightly answer version 1
				put(t, s, "other", "0")
			}
			holding.Store(true)
			var wg sync.WaitGroup
			wg.Go(func() { put(t, s, "k", "2") })
			<-committed
			var seen int64
			wg.Go(func() {
				seen = read(t, s)
				select {
				case <-release:
				default:
					t.Error("a version was shown that is not published")
				}
			})
			<-readDone // it has version 2
			if entry, _, err := s.GetVersion(t.Context(), "k", 1); name != "at" && (err != nil || entry.Version != 1) {
				t.Errorf("version 1 meanwhile: %+v, %v", entry, err)
			}
			close(release)
			wg.Wait()
			if entry, _ := get(t, s, "k"); seen != 2 || entry.Version != 2 {
				t.Errorf("version %d was shown, then %d read", seen, entry.Version)
			}
		})
	}
}

// TestKeysWhileOthersWrite lists keys while others come and go, and checks that those that stay
// are listed once each.
func TestKeysWhileOthersWrite(t *testing.T) {
	s := open(t, options{})
	var stay []string
	for i := range 300 {
		stay = append(stay, fmt.Sprintf("%03d/stays", i))
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for _, key := range stay[i*len(stay)/8 : (i+1)*len(stay)/8] {
				put(t, s, key, "1")
			}
		})
	}
	wg.Wait()
	stop := make(chan struct{})
	for i := range 4 {
		wg.Go(func() {
			for n := i; ; n += 4 {
				select {
				case <-stop:
					return
				default:
				}
				put(t, s, stay[n%len(stay)], "2")
				comes := fmt.Sprintf("%03d/comes", n*7%len(stay))
				put(t, s, comes, "1")
				change(t, s, store.Change{Operation: kv.OpDelete, Key: comes})
			}
		})
	}
	for _, deleted := range []bool{false, true, false, true} {
		var found []string
		revision := int64(0)
		for r := (kv.KeysRequest{Limit: 7, Deleted: deleted}); ; {
			page, err := s.Keys(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range page.Keys {
				if item.Latest.Revision > page.Revision {
					t.Errorf("%s is of revision %d, the page of %d", item.Latest.Key, item.Latest.Revision, page.Revision)
				}
				if item.Latest.Key[3:] == "/stays" {
					found = append(found, item.Latest.Key)
				}
			}
			if page.Revision < revision {
				t.Errorf("revision %d after %d", page.Revision, revision)
			}
			if revision, r.After = page.Revision, page.NextAfter; r.After == "" {
				break
			}
		}
		if diff := cmp.Diff(stay, found); diff != "" {
			t.Error(diff)
		}
	}
	close(stop)
	wg.Wait()
}
