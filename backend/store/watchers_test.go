package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// TestWatchesShareText: the text of an event, of the log or of history, is made once for all
// watches with values and once for all without.
func TestWatchesShareText(t *testing.T) {
	s := open(t, options{})
	var made atomic.Int64
	encode := func(text []byte, e *kv.Entry) []byte {
		made.Add(1)
		return append(append(text, e.Key...), e.Value...)
	}
	for _, since := range []int64{store.Now, 0} { // the log, then the history of what was put there
		t.Run(fmt.Sprint("since ", since), func(t *testing.T) {
			var watches []*store.Watch
			for i := range 20 {
				w, err := s.Watch(store.WatchRequest{Keys: kv.Prefixes{""}, Since: since, Values: i%2 == 0})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(w.Close)
				watches = append(watches, w)
			}
			if since == store.Now {
				put(t, s, "k", "1")
			} else {
				s.ForgetLog()
			}
			made.Store(0)
			for i, w := range watches {
				want := []string{"k1", "k"}[i%2]
				if d := next(t, w); len(d.Entries) != 1 || string(d.Entries[0].Text(encode)) != want {
					t.Errorf("watch %d: %d entries, want one, %q", i, len(d.Entries), want)
				}
			}
			if made.Load() != 2 {
				t.Errorf("%d texts were made, want 2", made.Load())
			}
		})
	}
}

// TestLogCountsTexts: texts count for the bound of the log.
func TestLogCountsTexts(t *testing.T) {
	s := open(t, options{})
	w, late := watch(t, s, "", store.Now), watch(t, s, "", store.Now)
	encode := func(text []byte, e *kv.Entry) []byte { return append(text, e.Value...) }
	value := make([]byte, store.LogBytes/16)
	for revision := range int64(15) { // fit without texts
		s.Publish([]kv.Entry{{Key: "k", Revision: revision + 1, Value: value}}, revision+1)
		for _, e := range next(t, w).Entries {
			e.Text(encode)
		}
	}
	if _, err := late.Next(t.Context(), 0); !errors.Is(err, kv.ErrSlowWatcher) {
		t.Errorf("a watch that is behind by the log and its texts: %v, want %v", err, kv.ErrSlowWatcher)
	}
}

// TestHeldDeliveriesAreBounded: when watches together hold too much that the log has dropped,
// those that have held their delivery the longest are cut off. Watches that go on are not.
func TestHeldDeliveriesAreBounded(t *testing.T) {
	const bound = 64<<20 + 2*store.LogBytes // with what is in the log
	s := open(t, options{})
	before := heap()
	fine := watch(t, s, "", store.Now)
	var mu sync.Mutex
	var gone []int
	var watches []*store.Watch
	revision := int64(0)
	publish := func() {
		revision++
		s.Publish([]kv.Entry{{Key: "k", Revision: revision, Value: bytes.Repeat([]byte("v"), 1<<20)}}, revision)
		next(t, fine)
	}
	held := map[int]*store.Delivery{}
	deadline := time.Now().Add(patience)
	for i := 0; i < 200 || func() bool { mu.Lock(); defer mu.Unlock(); return len(gone) < 100 }(); i++ {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d watches were let go", len(gone), i)
		}
		w := watch(t, s, "", store.Now)
		w.OnSlow(func() {
			mu.Lock()
			defer mu.Unlock()
			gone = append(gone, i)
			delete(held, i)
		})
		watches = append(watches, w)
		publish()
		d := next(t, w)
		mu.Lock()
		held[i] = &d
		mu.Unlock()
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(gone)
	for i, w := range watches {
		_, shed := slices.BinarySearch(gone, i)
		if shed != (i < len(gone)) {
			t.Fatalf("of %d watches that had to go, watch %d is let go: %v", len(gone), i, shed)
		}
		if !shed {
			break
		}
		if _, err := w.Next(context.Background(), 0); !errors.Is(err, kv.ErrSlowWatcher) {
			t.Fatalf("watch %d was let go, and its next delivery is %v, want %v", i, err, kv.ErrSlowWatcher)
		}
	}
	if cut := s.Stats().Cut; cut != uint64(len(gone)) {
		t.Errorf("%d watches are counted as cut, want %d", cut, len(gone))
	}
	if grown := heap() - before; grown > bound {
		t.Errorf("%d watches hold %d MB, want %d at most", len(held), grown>>20, bound>>20)
	}
	runtime.KeepAlive(held)
}

// TestCloseDoesNotWaitForWaking: the store closes at once although the watches of a write are to
// be woken much later.
func TestCloseDoesNotWaitForWaking(t *testing.T) {
	s := open(t, options{})
	watch(t, s, "", store.Now)
	s.DelayWaking(10_000_000) // minutes
	put(t, s, "k", "1")
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.Close()
	}()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("the store is still open")
	}
}
