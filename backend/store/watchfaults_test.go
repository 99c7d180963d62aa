package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
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

func TestWatchErrors(t *testing.T) {
	s := open(t, options{maxWatchers: 2})
	put(t, s, "k", "1")
	for prefix, since := range map[string]int64{"": 2, "k": 1 << 62} {
		_, err := s.Watch(store.WatchRequest{Keys: kv.Prefixes{prefix}, Since: since, Values: true})
		if !errors.Is(err, kv.ErrFutureRevision) || !strings.Contains(err.Error(), "at revision 1;") {
			t.Errorf("Watch(%q, %d) = %v, want ErrFutureRevision", prefix, since, err)
		}
	}
	for _, prefix := range []string{"a\x00", "\xff", strings.Repeat("x", 513)} {
		_, err := s.Watch(store.WatchRequest{Keys: kv.Prefixes{prefix}, Since: 0, Values: true})
		if !errors.Is(err, kv.ErrInvalidKey) || !strings.HasPrefix(err.Error(), "prefix: ") {
			t.Errorf("Watch(%q) = %v, want ErrInvalidKey", prefix, err)
		}
	}
	first := watch(t, s, "", 1)
	watch(t, s, strings.Repeat("x", 512), 0)
	if _, err := s.Watch(store.WatchRequest{Keys: kv.Prefixes{""}, Since: 0, Values: true}); !errors.Is(err, kv.ErrTooManyWatchers) || !strings.Contains(err.Error(), "KV_MAX_WATCHERS") {
		t.Errorf("the third watch of two: %v", err)
	}
	first.Close()
	first.Close()
	watch(t, s, "", 0)
	if open, _ := s.Watchers(); open != 2 {
		t.Errorf("%d watches are open, want 2", open)
	}
}

// TestEndWatches: every feed delivers what it has and then ends, also one that waits and one
// that reads history. OnEnd calls its function.
func TestEndWatches(t *testing.T) {
	s := open(t, options{})
	waiting, full := watch(t, s, "none", store.Now), watch(t, s, "", store.Now)
	put(t, s, "k", "1")
	behind, told := watch(t, s, "", 0), make(chan struct{})
	defer full.OnEnd(func() { close(told) })()
	ended := make(chan error)
	go func() {
		_, err := waiting.Next(context.Background(), patience)
		ended <- err
	}()
	s.EndWatches()
	<-told
	take(t, full, 1)
	_, fullErr := full.Next(t.Context(), patience)
	_, behindErr := behind.Next(t.Context(), patience)
	for i, err := range []error{<-ended, fullErr, behindErr} {
		if !errors.Is(err, kv.ErrWatchEnded) {
			t.Errorf("watch %d ends with %v", i, err)
		}
	}
	if _, err := s.Watch(store.WatchRequest{Keys: kv.Prefixes{""}, Since: 0, Values: true}); !errors.Is(err, kv.ErrUnavailable) {
		t.Errorf("a watch after the end: %v", err)
	}
	put(t, s, "k", "2") // writes still work
}

func TestWatchContext(t *testing.T) {
	s := open(t, options{})
	w := watch(t, s, "", store.Now)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	if _, err := w.Next(ctx, patience); !errors.Is(err, context.Canceled) {
		t.Errorf("Next = %v", err)
	}
	put(t, s, "k", "1") // the watch still works
	take(t, w, 1)
}

// TestWatchSeesCommitsOnly: nothing of a failed commit is delivered, and a write that is
// committed and not published yet is delivered once. On an engine that is shared the follower may
// publish it before the writer does.
func TestWatchSeesCommitsOnly(t *testing.T) {
	db, faults := databasetest.OpenFaulty(t, databasetest.FileURL(t))
	committed, publish := make(chan struct{}), make(chan struct{})
	var hold atomic.Bool
	s := over(t, db, options{maxKeys: 10, maxBytes: 1000, hooks: store.Hooks{AfterCommit: func() {
		if hold.Load() {
			close(committed)
			<-publish
		}
	}}})
	w := watch(t, s, "", store.Now)
	faults.FailCommits(1)
	if _, err := tryPut(t.Context(), s, "k", "0"); err == nil {
		t.Fatal("the commit did not fail")
	}
	wantIdle(t, w, 0)
	put(t, s, "k", "1")
	hold.Store(true)
	var writing sync.WaitGroup
	writing.Go(func() { put(t, s, "k", "2") })
	<-committed
	hold.Store(false)
	late := watch(t, s, "", 0)
	if d := next(t, late); len(d.Entries) != 1 || d.Position != 1 {
		t.Errorf("before publishing: %+v", d)
	}
	wantIdle(t, late, 1)
	close(publish)
	writing.Wait()
	for i, entries := range [][]kv.Entry{take(t, w, 2)[1:], take(t, late, 1)} {
		if entries[0].Revision != 2 {
			t.Errorf("watch %d got %+v", i, entries)
		}
	}
	wantIdle(t, late, 2)
}

// TestWatchUnderRetention: while old versions are deleted, each feed is in order and complete,
// except for what it says.
func TestWatchUnderRetention(t *testing.T) {
	const writes = 200
	s := open(t, options{keep: 3})
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() {
		for i := range writes {
			put(t, s, fmt.Sprint("k", i%5), "1")
		}
	})
	for position := int64(0); position < writes; {
		w := watch(t, s, "", position)
		for range 3 {
			d, err := w.Next(t.Context(), time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			if d.Compacted > 0 {
				if d.Compacted <= position {
					t.Fatalf("compacted to %d behind %d", d.Compacted, position)
				}
				position = d.Compacted
			}
			for _, entry := range d.Entries {
				if position++; entry.Revision != position {
					t.Fatalf("revision %d comes behind %d", entry.Revision, position-1)
				}
			}
		}
		w.Close()
	}
}

// A follower resumes a feed again and again.
type follower struct {
	prefix   string
	position int64
	seen     []kv.Entry
}

// follow reads everything up to the revision that last returns, and cuts the feed at random,
// also within a delivery.
func (f *follower) follow(t *testing.T, s *store.Store, random *rand.Rand, last func() int64) {
	for last() > f.position {
		w, err := s.Watch(store.WatchRequest{Keys: kv.Prefixes{f.prefix}, Since: f.position, Values: true})
		if err != nil {
			t.Errorf("resume at %d: %v", f.position, err)
			return
		}
		for range random.IntN(20) {
			d, err := w.Next(context.Background(), time.Duration(random.IntN(3))*time.Millisecond)
			if errors.Is(err, kv.ErrSlowWatcher) {
				break
			}
			if err != nil || d.Compacted > 0 {
				t.Errorf("behind %d: %+v, %v", f.position, d, err)
			}
			entries, cut := d.Entries, random.IntN(10) == 0 && len(d.Entries) > 0
			if cut {
				entries = entries[:random.IntN(len(entries))]
			}
			for _, entry := range entries {
				f.seen = append(f.seen, entry.Entry)
				f.position = entry.Revision
			}
			if cut {
				break
			}
			f.position = d.Position
		}
		w.Close()
	}
}

// TestResume: followers that are cut at random, with writers, batches and restarts of
// the store, see each event of their keys exactly once, in order.
func TestResume(t *testing.T) {
	const restarts, writers, perWriter = 4, 4, 60
	url := databasetest.URL(t)
	var mu sync.Mutex
	var history []kv.Entry
	followers := []*follower{{prefix: ""}, {prefix: "a"}, {prefix: "a/1"}, {prefix: "b/"}, {prefix: "none"}, {prefix: "a/"}}
	for restart := range restarts {
		db := databasetest.Open(t, url)
		s := over(t, db, options{maxKeys: 3, maxBytes: 64})
		note := func(written ...kv.Written) {
			mu.Lock()
			defer mu.Unlock()
			for _, w := range written {
				history = append(history, w.Entry)
			}
		}
		var writing, following sync.WaitGroup
		var done atomic.Bool
		for worker := range writers {
			random := rand.New(rand.NewPCG(uint64(restart), uint64(worker)))
			writing.Go(func() {
				for range perWriter {
					note(writeRandomly(t, s, random)...)
				}
			})
		}
		for i, f := range followers {
			random := rand.New(rand.NewPCG(uint64(restart), uint64(100+i)))
			following.Go(func() {
				f.follow(t, s, random, func() int64 {
					if !done.Load() {
						return 1 << 62
					}
					mu.Lock()
					defer mu.Unlock()
					return int64(len(history))
				})
			})
		}
		if restart%2 == 1 { // feeds that are behind read the database
			following.Go(func() {
				for !done.Load() {
					s.ForgetLog()
					runtime.Gosched()
				}
			})
		}
		writing.Wait()
		done.Store(true)
		following.Wait()
		if open, subscribed := s.Watchers(); open != 0 || subscribed != 0 {
			t.Errorf("%d watches are open and %d subscribed at the end", open, subscribed)
		}
		s.Close()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	slices.SortFunc(history, func(a, b kv.Entry) int { return int(a.Revision - b.Revision) })
	for _, f := range followers {
		var want []kv.Entry
		for _, entry := range history {
			if strings.HasPrefix(entry.Key, f.prefix) {
				want = append(want, entry)
			}
		}
		if diff := cmp.Diff(want, f.seen, cmp.Transformer("text", func(b []byte) string { return string(b) })); diff != "" {
			t.Errorf("the follower of %q: %s", f.prefix, diff)
		}
	}
}

// writeRandomly makes a put, a delete or a batch.
func writeRandomly(t *testing.T, s *store.Store, random *rand.Rand) (written []kv.Written) {
	key := func() string { return []string{"a", "a/1", "a/12", "a/2", "b/1", "b/日", "c"}[random.IntN(7)] }
	var changes []store.Change
	for range 1 + random.IntN(5) {
		changes = append(changes, store.Change{Operation: kv.OpPut, Key: key(), Value: []byte("1")})
	}
	if random.IntN(3) == 0 {
		changes = append(changes, store.Change{Operation: kv.OpDelete, Key: changes[0].Key})
	}
	done, err := s.Batch(context.Background(), nil, changes)
	if err != nil && !errors.Is(err, kv.ErrKeyDeleted) {
		t.Error(err)
	}
	for _, result := range done.Results {
		written = append(written, result.Written)
	}
	return written
}
