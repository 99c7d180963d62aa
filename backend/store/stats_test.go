package store_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"kvstore/backend/cache"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

type observed struct {
	callers int
	did     store.Transaction
}

// TestObserve: each transaction is observed once, with its callers and what it did, and
// its statements run in the context that Observe returns.
func TestObserve(t *testing.T) {
	var mu sync.Mutex
	var seen []observed
	entries, err := cache.New(cache.Config[kv.Entry]{MaxKeys: 10, MaxBytes: 1 << 20, Size: func(_ string, e kv.Entry) int64 { return e.Size() }})
	if err != nil {
		t.Fatal(err)
	}
	defer entries.Close()
	type key struct{}
	s, err := store.New(store.Config{
		Database: databasetest.Open(t, databasetest.URL(t)), Cache: entries, MaxValueBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler),
		Observe: func(callers []context.Context) (context.Context, func(store.Transaction)) {
			if callers[0].Value(key{}) == nil {
				t.Error("not the context of the caller")
			}
			return context.Background(), func(did store.Transaction) {
				mu.Lock()
				seen = append(seen, observed{len(callers), did})
				mu.Unlock()
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := context.WithValue(t.Context(), key{}, 1)
	if _, err := s.Write(ctx, store.Change{Operation: kv.OpPut, Key: "k", Value: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(ctx, store.Change{Operation: kv.OpRevert, Key: "k", Version: 9}); !errors.Is(err, kv.ErrVersionNotFound) {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 2 || seen[0].callers != 1 || seen[0].did.Versions != 1 || seen[0].did.Err != nil || seen[1].did.Versions != 0 || seen[1].did.Err != nil {
		t.Errorf("observed %+v", seen)
	}
}

func TestStats(t *testing.T) {
	s := open(t, options{keep: 1, maxWatchers: 7})
	w, err := s.Watch(store.WatchRequest{Keys: kv.Prefixes{""}, Since: store.Now, Values: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for range 3 {
		if _, err := s.Write(t.Context(), store.Change{Operation: kv.OpPut, Key: "k", Value: []byte("1")}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Write(t.Context(), store.Change{Operation: kv.OpDelete, Key: "k"}); err != nil {
		t.Fatal(err)
	}
	for got := 0; got < 4; {
		delivery, err := w.Next(t.Context(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		got += len(delivery.Entries)
	}
	stats := s.Stats()
	if stats.Written[kv.OpPut] != 3 || stats.Written[kv.OpDelete] != 1 || stats.Watchers != 1 || stats.MaxWatchers != 7 || stats.Events != 4 ||
		stats.Cut != 0 || stats.QueuedWrites != 0 || stats.MaxQueuedWrites == 0 || stats.QueuedBytes != 0 || stats.MaxQueuedBytes == 0 {
		t.Errorf("stats %+v", stats)
	}
	for deadline := time.Now().Add(10 * time.Second); s.Stats().Pruned != 3; {
		if time.Now().After(deadline) {
			t.Fatalf("pruned %d, want 3", s.Stats().Pruned)
		}
	}
}
