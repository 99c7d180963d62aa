package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

// openHeldRead opens a store with version 1 of k, which is not in the cache. The first
// read of k from the database closes read and goes on when resume is closed.
func openHeldRead(t *testing.T) (s *store.Store, read, resume chan struct{}) {
	t.Helper()
	read, resume = make(chan struct{}), make(chan struct{})
	var once sync.Once
	s = open(t, options{maxKeys: 1, hooks: store.Hooks{AfterRead: func(e kv.Entry) {
		if e.Key == "k" {
			once.Do(func() { close(read); <-resume })
		}
	}}})
	put(t, s, "k", "1")
	put(t, s, "other", "0") // k leaves the cache
	return s, read, resume
}

// TestLateFill forces this order: a read misses and gets version 1, version 2 is
// written and evicted again, and then the read tries to fill the cache.
func TestLateFill(t *testing.T) {
	s, read, resume := openHeldRead(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		if entry, _ := get(t, s, "k"); entry.Version != 1 {
			t.Errorf("the slow read got version %d, want 1", entry.Version)
		}
	})
	<-read
	put(t, s, "k", "2")
	put(t, s, "other", "1") // k leaves again
	close(resume)
	wg.Wait()
	if entry, source := get(t, s, "k"); entry.Version != 2 || source != store.FromDatabase {
		t.Errorf("after the late fill: version %d from the %s, want 2 from the database", entry.Version, source)
	}
}

// TestUnpublishedIsNotRead holds the writer between commit and cache. A read that
// gets the new version from the database must wait while the cache still has the old
// one, otherwise a later read would see an older version.
func TestUnpublishedIsNotRead(t *testing.T) {
	committed, publish := make(chan struct{}), make(chan struct{})
	var hold atomic.Bool
	readDone := make(chan struct{}, 1)
	s := open(t, options{url: databasetest.FileURL(t), hooks: store.Hooks{
		AfterCommit: func() {
			if hold.Load() {
				close(committed)
				<-publish
			}
		},
		AfterRead: func(kv.Entry) { readDone <- struct{}{} },
	}})
	put(t, s, "k", "1")
	hold.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() { put(t, s, "k", "2") })
	wg.Go(func() {
		<-committed
		if entry, _, err := s.GetVersion(context.Background(), "k", 2); err != nil || entry.Version != 2 {
			t.Errorf("GetVersion(2) = %v, %v", entry, err)
		}
		select {
		case <-publish:
		default:
			t.Error("version 2 was answered before it was published")
		}
	})
	<-readDone // the reader has version 2
	if entry, source := get(t, s, "k"); entry.Version != 1 || source != store.FromCache {
		t.Errorf("before publishing: version %d from the %s, want 1 from the cache", entry.Version, source)
	}
	hold.Store(false)
	close(publish)
	wg.Wait()
	if entry, _ := get(t, s, "k"); entry.Version != 2 {
		t.Errorf("after publishing: version %d, want 2", entry.Version)
	}
}

// TestUnpublishedReadEnds: a read that waits for the writer ends with its context. On an engine that is
// shared reads do not wait for the writer.
func TestUnpublishedReadEnds(t *testing.T) {
	committed, publish := make(chan struct{}), make(chan struct{})
	var hold atomic.Bool
	s := over(t, databasetest.Open(t, databasetest.FileURL(t)), options{maxKeys: 1, maxBytes: 1000, hooks: store.Hooks{AfterCommit: func() {
		if hold.Load() {
			close(committed)
			<-publish
		}
	}}})
	put(t, s, "k", "1")
	put(t, s, "other", "1") // k leaves the cache
	hold.Store(true)
	var writing sync.WaitGroup
	writing.Go(func() { put(t, s, "k", "2") })
	<-committed
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for name, read := range map[string]func() error{
		"Get":     func() error { _, _, err := s.Get(ctx, "k"); return err },
		"Version": func() error { _, _, err := s.GetVersion(ctx, "k", 2); return err },
		"At":      func() error { _, _, err := s.GetAt(ctx, "k", 1<<60); return err },
		"History": func() error { _, err := s.History(ctx, "k", kv.HistoryRequest{Limit: 1}); return err },
		"Keys":    func() error { _, err := s.Keys(ctx, kv.KeysRequest{Limit: 1}); return err },
	} {
		if err := read(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if entry, _, err := s.GetVersion(t.Context(), "k", 1); err != nil || entry.Version != 1 {
		t.Errorf("a read of what was published: %v", err)
	}
	hold.Store(false)
	close(publish)
	writing.Wait()
}

// TestNeverStale has many writers and readers of three keys and a cache of one key. No read
// that starts after an answered write may see an older version.
func TestNeverStale(t *testing.T) {
	const keys, writers, readers, perWriter = 3, 4, 4, 150
	s := open(t, options{maxKeys: 1})
	var answered [keys]atomic.Int64
	for k := range keys {
		put(t, s, fmt.Sprint("k", k), "0")
		answered[k].Store(1)
	}
	var writing, reading sync.WaitGroup
	stop := make(chan struct{})
	for range writers {
		writing.Go(func() {
			for range perWriter {
				k := rand.IntN(keys)
				version := put(t, s, fmt.Sprint("k", k), "1").Entry.Version
				raise(&answered[k], version)
			}
		})
	}
	for range readers {
		reading.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				k := rand.IntN(keys)
				before := answered[k].Load()
				entry, _ := get(t, s, fmt.Sprint("k", k))
				if entry.Version < before {
					t.Errorf("read version %d after version %d was seen", entry.Version, before)
					return
				}
				raise(&answered[k], entry.Version) // a read counts like a write
			}
		})
	}
	writing.Wait()
	close(stop)
	reading.Wait()
}

// TestAgainstMap runs random operations against a plain map, with restarts.
func TestAgainstMap(t *testing.T) {
	url := databasetest.URL(t)
	model := map[string][]string{}
	random := rand.New(rand.NewPCG(1, 2))
	for range 3 {
		db := databasetest.Open(t, url)
		s := over(t, db, options{maxKeys: 3, maxBytes: 64})
		for range 400 {
			key := "k" + strconv.Itoa(random.IntN(8))
			history := model[key]
			switch random.IntN(3) {
			case 0:
				value := strconv.Quote(strings.Repeat("v", random.IntN(40)))
				written := put(t, s, key, value)
				model[key] = append(history, value)
				if written.Entry.Version != int64(len(history)+1) || written.Previous != int64(len(history)) {
					t.Fatalf("Put(%s) = %+v after %d versions", key, written, len(history))
				}
			case 1:
				entry, _, err := s.Get(t.Context(), key)
				if len(history) == 0 {
					if !errors.Is(err, kv.ErrKeyNotFound) {
						t.Fatalf("Get(%s) = %v", key, err)
					}
				} else if err != nil || string(entry.Value) != history[len(history)-1] || entry.Version != int64(len(history)) {
					t.Fatalf("Get(%s) = %v, %v after %d versions", key, entry, err, len(history))
				}
			default:
				version := random.Int64N(int64(len(history))+2) + 1
				entry, _, err := s.GetVersion(t.Context(), key, version)
				if version > int64(len(history)) {
					if !errors.Is(err, kv.ErrVersionNotFound) {
						t.Fatalf("GetVersion(%s, %d) = %v", key, version, err)
					}
				} else if err != nil || string(entry.Value) != history[version-1] {
					t.Fatalf("GetVersion(%s, %d) = %v, %v", key, version, entry, err)
				}
			}
		}
		s.Close()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
