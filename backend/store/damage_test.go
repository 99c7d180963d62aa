package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// damage changes rows without their checksums, as a flipped bit on the disk does.
func damage(t *testing.T, url, statement string) {
	t.Helper()
	if _, err := databasetest.Raw(t, url).ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

const (
	spoilValue = "UPDATE versions SET value = (SELECT value FROM versions WHERE key_id = 1 AND version = 1) WHERE key_id = 1 AND version = 2"
	spoilTime  = "UPDATE versions SET timestamp = timestamp + 1 WHERE key_id = 1 AND version = 2"
	spoilKey   = "UPDATE keys SET version = 3 WHERE id = 1"
)

// spoiled returns a store with two versions of k and one of other, opened after the
// statement has damaged it.
func spoiled(t *testing.T, statement string) *store.Store {
	t.Helper()
	url := databasetest.URL(t)
	first := databasetest.Open(t, url)
	s := over(t, first, options{maxKeys: 10, maxBytes: 1000})
	put(t, s, "k", `{"a":1}`)
	put(t, s, "k", `{"a":2}`)
	put(t, s, "other", "1")
	s.Close()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	damage(t, url, statement)
	return over(t, databasetest.Open(t, url), options{maxKeys: 10, maxBytes: 1000})
}

func wantDamaged(t *testing.T, doing string, err error, detail string) {
	t.Helper()
	var known *kv.Error
	if !errors.Is(err, kv.ErrCorrupt) || !errors.As(err, &known) || !strings.Contains(known.Detail, detail) {
		t.Errorf("%s: %v, want ErrCorrupt with %q", doing, err, detail)
	}
}

func write(t *testing.T, s *store.Store, c store.Change) error {
	t.Helper()
	c.Key = "k"
	_, err := s.Write(t.Context(), c)
	return err
}

// TestDamagedHead: a damaged latest version is not read, patched, reverted to or cached.
// Everything else works, and after another write the key can be read.
func TestDamagedHead(t *testing.T) {
	for name, spoil := range map[string]string{"value": spoilValue, "time": spoilTime} {
		t.Run(name, func(t *testing.T) {
			s := spoiled(t, spoil)
			const named = "Key 'k' version 2 is damaged"
			for range 2 {
				_, _, err := s.Get(t.Context(), "k")
				wantDamaged(t, "Get", err, named)
			}
			if stats := s.Stats().Cache; stats.Keys != 0 {
				t.Errorf("%d keys are cached", stats.Keys)
			}
			_, _, err := s.GetVersion(t.Context(), "k", 2)
			wantDamaged(t, "GetVersion", err, named)
			_, err = s.Update(t.Context(), store.Change{Key: "k"}, func(kv.Entry) ([]byte, string, error) { return []byte("3"), "", nil })
			wantDamaged(t, "Update", err, named)
			wantDamaged(t, "revert", write(t, s, store.Change{Operation: kv.OpRevert, Version: 2}), named)
			_, err = s.Batch(t.Context(), nil, []store.Change{{Operation: store.OpGet, Key: "other"}, {Operation: store.OpGet, Key: "k"}})
			wantDamaged(t, "Batch", err, named)
			if entry, _, err := s.GetVersion(t.Context(), "k", 1); err != nil || string(entry.Value) != `{"a":1}` {
				t.Errorf("version 1: %+v, %v", entry, err)
			}
			if entry, _ := get(t, s, "other"); entry.Version != 1 {
				t.Errorf("the other key: %+v", entry)
			}
			if s.Stats().Damage == 0 {
				t.Error("nothing was counted")
			}
			if written := put(t, s, "k", "3"); written.Entry.Version != 3 || written.TotalVersions != 3 {
				t.Errorf("the next write is %+v", written)
			}
			if entry, _ := get(t, s, "k"); string(entry.Value) != "3" {
				t.Errorf("after it: %+v", entry)
			}
		})
	}
}

// TestDamagedVersionCanGo: a damaged value can be destroyed, other damage of a version goes with
// its key.
func TestDamagedVersionCanGo(t *testing.T) {
	s := spoiled(t, spoilValue)
	if _, err := s.Destroy(t.Context(), "k", []int64{2}, kv.Condition{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.GetVersion(t.Context(), "k", 2); !errors.Is(err, kv.ErrVersionGone) {
		t.Errorf("the destroyed version: %v", err)
	}
	if page, err := s.History(t.Context(), "k", kv.HistoryRequest{Limit: 10, Values: true}); err != nil || len(page.Versions) != 2 || page.TotalVersions != 1 {
		t.Errorf("the history: %+v, %v", page, err)
	}
	s = spoiled(t, spoilTime)
	_, err := s.Destroy(t.Context(), "k", []int64{2}, kv.Condition{})
	wantDamaged(t, "Destroy", err, "Key 'k' version 2 is damaged")
	if _, err := s.DestroyAll(t.Context(), "k", "", kv.Condition{}); err != nil {
		t.Fatal(err)
	}
	if written := put(t, s, "k", "1"); written.Entry.Version != 4 || written.TotalVersions != 1 {
		t.Errorf("the next write is %+v, want version 4", written)
	}
	if _, _, err := s.GetAt(t.Context(), "k", 1); !errors.Is(err, kv.ErrVersionGone) {
		t.Errorf("GetAt before the erasure: %v", err)
	}
}

// TestDamagedKey: a key whose own row is damaged cannot be written. Other keys of the same
// transaction are written.
func TestDamagedKey(t *testing.T) {
	s := spoiled(t, spoilKey)
	const named = "Key 'k'"
	_, _, err := s.Get(t.Context(), "k")
	wantDamaged(t, "Get", err, named)
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			_, err := tryPut(context.Background(), s, "k", "1")
			wantDamaged(t, "put", err, named)
		})
		wg.Go(func() { put(t, s, "other", "2") })
	}
	wg.Wait()
	if entry, _ := get(t, s, "other"); entry.Version != 31 || entry.Revision != 33 {
		t.Errorf("%+v", entry)
	}
	_, err = s.Destroy(t.Context(), "k", []int64{1}, kv.Condition{})
	wantDamaged(t, "Destroy", err, named)
	_, err = s.History(t.Context(), "k", kv.HistoryRequest{Limit: 10})
	wantDamaged(t, "History", err, named)
	if stats, err := s.DatabaseStats(t.Context()); err != nil || stats.Revision != 33 {
		t.Errorf("%+v, %v", stats, err)
	}
}

// TestDamagedKeyDelaysNoExpiry: a key that cannot be ended does not delay others.
func TestDamagedKeyDelaysNoExpiry(t *testing.T) {
	const keys = 1000
	var alone time.Duration
	for _, spoil := range []string{"", "UPDATE keys SET version = 3 WHERE key = 'k0'", "UPDATE keys SET total_versions = 3 WHERE key = 'k500'"} {
		clock := newTestClock(1_000_000)
		url := databasetest.URL(t)
		first := databasetest.Open(t, url)
		s := over(t, first, options{now: clock.now})
		changes := make([]store.Change, keys)
		for i := range changes {
			changes[i] = putOf(fmt.Sprint("k", i), "1")
			changes[i].TTL = time.Minute
		}
		if _, err := s.Batch(t.Context(), nil, changes); err != nil {
			t.Fatal(err)
		}
		s.Close()
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		want := int64(0)
		if spoil != "" {
			want = 1
			damage(t, url, spoil)
		}
		s = over(t, databasetest.Open(t, url), options{now: clock.now})
		began := time.Now()
		clock.add(time.Minute)
		waitFor(t, func() bool {
			stats, err := s.DatabaseStats(t.Context())
			return err != nil || stats.Keys <= want
		})
		took := time.Since(began)
		if spoil == "" {
			alone = took
		}
		if took > 4*alone+4*time.Second { // a delay for each page would be 40 s
			t.Errorf("%q: the others have taken %s to end, without it %s", spoil, took, alone)
		}
	}
}
