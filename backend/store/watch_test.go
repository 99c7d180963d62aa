package store_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// patience is how long a test waits for something that must happen.
const patience = 10 * time.Second

func watch(t testing.TB, s *store.Store, prefix string, since int64) *store.Watch {
	t.Helper()
	w, err := s.Watch(store.WatchRequest{Keys: kv.Prefixes{prefix}, Since: since, Values: true})
	if err != nil {
		t.Fatalf("Watch(%q, %d): %v", prefix, since, err)
	}
	t.Cleanup(w.Close)
	return w
}

// next returns the next delivery that is not empty.
func next(t testing.TB, w *store.Watch) store.Delivery {
	t.Helper()
	d, err := w.Next(context.Background(), patience)
	if err != nil || len(d.Entries) == 0 && d.Compacted == 0 {
		t.Fatalf("Next = %+v, %v, want a delivery", d, err)
	}
	return d
}

// take returns the next n entries.
func take(t testing.TB, w *store.Watch, n int) (entries []kv.Entry) {
	t.Helper()
	for len(entries) < n {
		for _, entry := range next(t, w).Entries {
			entries = append(entries, entry.Entry)
		}
	}
	if len(entries) > n {
		t.Fatalf("%d entries came, want %d", len(entries), n)
	}
	return entries
}

// wantIdle fails the test unless nothing is delivered up to that revision.
func wantIdle(t *testing.T, w *store.Watch, position int64) {
	t.Helper()
	if d, err := w.Next(t.Context(), 0); err != nil || len(d.Entries) > 0 || d.Position != position || w.Position() != position {
		t.Errorf("Next = %+v, %v, want nothing up to %d", d, err, position)
	}
}

// TestWatch: every kind of write goes to the watchers of its key only, the same from the log
// as from history.
func TestWatch(t *testing.T) {
	s := open(t, options{})
	all, a, other := watch(t, s, "", store.Now), watch(t, s, "a/", store.Now), watch(t, s, "other", store.Now)
	changes := []store.Change{
		{Operation: kv.OpPut, Key: "a/1", Value: []byte("1"), Author: "me", TTL: time.Hour},
		{Operation: kv.OpPut, Key: "a/1", Value: []byte{0xff, 0}, ContentType: "image/png"},
		{Operation: kv.OpRevert, Key: "a/1", Version: 1},
		{Operation: kv.OpDelete, Key: "a/1"},
		{Operation: kv.OpPut, Key: "b", Value: []byte("2")},
		{Operation: kv.OpPut, Key: "a", Value: []byte("3")},
	}
	var want []kv.Entry
	for _, change := range changes {
		written, err := s.Write(t.Context(), change)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, written.Entry)
	}
	if diff := cmp.Diff(want, take(t, all, len(want))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[:4], take(t, a, 4)); diff != "" {
		t.Error(diff)
	}
	wantIdle(t, other, int64(len(want)))
	history := take(t, watch(t, s, "", 0), len(want))
	for i := range history { // there an empty value is not nil
		if len(history[i].Value) == 0 {
			history[i].Value = nil
		}
	}
	if diff := cmp.Diff(want, history); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[2:4], take(t, watch(t, s, "a/", 2), 2)[:2], cmp.Transformer("text", func(b []byte) string { return string(b) })); diff != "" {
		t.Error(diff)
	}
	wantIdle(t, watch(t, s, "a/", 4), 6)
}

// TestWatchExpiry: the end of a key is delivered although nobody writes or reads the key.
func TestWatchExpiry(t *testing.T) {
	s := open(t, options{})
	w := watch(t, s, "k", store.Now)
	if _, err := s.Write(t.Context(), store.Change{Operation: kv.OpPut, Key: "k", Value: []byte("1"), TTL: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if got := take(t, w, 2)[1]; got.Operation != kv.OpExpire || got.Version != 2 {
		t.Errorf("the end of the key is %+v", got)
	}
}

// TestWatchDestroyed: the history says that a value was destroyed. The end of an erased key is
// delivered to open watches, and later ones learn that there is a gap.
func TestWatchDestroyed(t *testing.T) {
	s := open(t, options{})
	put(t, s, "k", "1")
	put(t, s, "k", "2")
	put(t, s, "other", "3")
	if _, err := s.Destroy(t.Context(), "k", []int64{1}, kv.Condition{}); err != nil {
		t.Fatal(err)
	}
	entries := take(t, watch(t, s, "k", 0), 2)
	if first := entries[0]; !first.Destroyed || len(first.Value) != 0 || entries[1].Destroyed {
		t.Errorf("history has %+v", entries)
	}
	wantIdle(t, watch(t, s, "k", 3), 3)
	w := watch(t, s, "k", store.Now)
	if _, err := s.DestroyAll(t.Context(), "k", "", kv.Condition{}); err != nil {
		t.Fatal(err)
	}
	if got := take(t, w, 1)[0]; got.Operation != kv.OpDestroy || got.Revision != 4 || got.Version != 3 {
		t.Errorf("the end of the key is %+v", got)
	}
	later := watch(t, s, "", 0)
	if d := next(t, later); d.Compacted != 4 || d.Position != 4 || len(d.Entries) != 1 || d.Entries[0].Key != "other" {
		t.Errorf("beside the gap: %+v", d)
	}
	wantIdle(t, later, 4)
}

// TestWatchOverDestroyed: a feed that is behind when a version is destroyed goes on, without the
// value and without a gap.
func TestWatchOverDestroyed(t *testing.T) {
	s := open(t, options{})
	w, quiet := watch(t, s, "", store.Now), watch(t, s, "quiet", store.Now)
	put(t, s, "k", "1")
	put(t, s, "k", "2")
	if _, err := s.Destroy(t.Context(), "k", []int64{1}, kv.Condition{}); err != nil {
		t.Fatal(err)
	}
	put(t, s, "k", "3")
	for name, w := range map[string]*store.Watch{"behind": w, "later": watch(t, s, "k", 0)} {
		entries := take(t, w, 3)
		if !entries[0].Destroyed || len(entries[0].Value) != 0 || string(entries[1].Value) != "2" || string(entries[2].Value) != "3" {
			t.Errorf("%s: %+v", name, entries)
		}
	}
	put(t, s, "quiet", "4")
	if entries := take(t, quiet, 1); entries[0].Revision != 4 {
		t.Errorf("%+v", entries)
	}
	for _, key := range []string{"k", "quiet"} { // the feed delivers the end of both
		if _, err := s.DestroyAll(t.Context(), key, "", kv.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	if d := next(t, w); d.Compacted != 4 || len(d.Entries) != 2 || d.Entries[0].Key != "k" || d.Entries[1].Key != "quiet" {
		t.Errorf("behind: %+v", d)
	}
	if d := next(t, watch(t, s, "", 3)); d.Compacted != 6 || len(d.Entries) != 0 || d.Position != 6 {
		t.Errorf("later: %+v", d)
	}
}

// TestWatchCompacted: after retention a feed says once from where on it is complete, and delivers
// what is left.
func TestWatchCompacted(t *testing.T) {
	s := open(t, options{keep: 1})
	for i := 1; i <= 5; i++ {
		put(t, s, "k", strconv.Itoa(i))
	}
	waitReadable(t, s, "k", 5, 5)
	put(t, s, "quiet/a", "6")
	if entries := take(t, watch(t, s, "k", 0), 5); entries[0].Revision != 1 {
		t.Errorf("the log has %+v", entries)
	}
	s.ForgetLog()
	for since, compacted := range map[int64]bool{0: true, 3: true, 4: false} {
		w := watch(t, s, "", since)
		want := int64(0)
		if compacted {
			want = 4
		}
		if d := next(t, w); d.Compacted != want || d.Reset || d.Position != 6 || len(d.Entries) != 2 || d.Entries[0].Revision != 5 {
			t.Errorf("since %d: %+v", since, d)
		}
		wantIdle(t, w, 6)
	}
	quiet := watch(t, s, "quiet/", 0)
	if d := next(t, quiet); d.Compacted != 0 || len(d.Entries) != 1 {
		t.Errorf("a feed of other keys: %+v", d)
	}
}

// TestWatchHeld: the history of a quiet key is delivered whatever happened to other keys. Only
// feeds that may lack something are told so.
func TestWatchHeld(t *testing.T) {
	s := open(t, options{keep: 1})
	for i, key := range []string{"hot", "quiet/a", "quiet/b", "hot", "secret"} {
		put(t, s, key, strconv.Itoa(1+i/3))
	}
	waitReadable(t, s, "hot", 2, 2)
	s.ForgetLog()
	held := func(compacted int64) {
		t.Helper()
		w := watch(t, s, "quiet/", 2)
		if d := next(t, w); d.Compacted != compacted || len(d.Entries) != 1 || d.Entries[0].Key != "quiet/b" || d.Entries[0].Revision != 3 {
			t.Errorf("the feed of the quiet keys: %+v", d)
		}
		wantIdle(t, w, w.Position())
	}
	held(0)
	if _, err := s.DestroyAll(t.Context(), "secret", "", kv.Condition{}); err != nil {
		t.Fatal(err)
	}
	held(6) // its name is not known any more
}

// TestWatchSinceRead: a feed can begin after any revision that a read returned.
func TestWatchSinceRead(t *testing.T) {
	const tries = 150
	s := open(t, options{})
	put(t, s, "k", "1")
	var writing sync.WaitGroup
	defer writing.Wait()
	var done atomic.Bool
	defer done.Store(true)
	writing.Go(func() {
		for !done.Load() {
			put(t, s, "k", "1")
		}
	})
	for last := int64(0); last < tries; {
		entry, _ := get(t, s, "k")
		if entry.Revision == last {
			continue
		}
		last = entry.Revision // just written
		w, err := s.Watch(store.WatchRequest{Keys: kv.AllKeys(), Since: entry.Revision})
		if err != nil {
			t.Fatalf("a read says revision %d, and then: %v", entry.Revision, err)
		}
		w.Close()
	}
}

// TestWatchWithoutValues: everything but the value is delivered, from the log and from history.
func TestWatchWithoutValues(t *testing.T) {
	s := open(t, options{})
	bare := func(since int64) *store.Watch {
		w, err := s.Watch(store.WatchRequest{Keys: kv.AllKeys(), Since: since})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Close)
		return w
	}
	live, full := bare(store.Now), watch(t, s, "", store.Now)
	put(t, s, "a", `"value"`)
	written, err := s.Write(t.Context(), store.Change{Operation: kv.OpPut, Key: "b", Value: []byte{1}, ContentType: "image/png", Author: "me"})
	if err != nil {
		t.Fatal(err)
	}
	want := written.Entry
	want.Value = nil
	for name, w := range map[string]*store.Watch{"live": live, "history": bare(0)} {
		entries := take(t, w, 2)
		if diff := cmp.Diff(want, entries[1]); diff != "" || len(entries[0].Value) > 0 {
			t.Errorf("%s: %+v, %s", name, entries[0], diff)
		}
	}
	if entries := take(t, full, 2); len(entries[0].Value) == 0 || len(entries[1].Value) == 0 {
		t.Errorf("beside a feed without values one with values has %+v", entries)
	}
}

// TestWatchCompactedMeanwhile: an event in the log is delivered although retention has removed it
// from the history.
func TestWatchCompactedMeanwhile(t *testing.T) {
	s := open(t, options{keep: 1})
	put(t, s, "k", "1")
	put(t, s, "k", "2")
	s.ForgetLog()
	w := watch(t, s, "", 0)
	put(t, s, "k", "3")
	put(t, s, "k", "4")
	waitReadable(t, s, "k", 4, 4)
	if d := next(t, w); d.Compacted != 2 || d.Position != 4 || len(d.Entries) != 2 || d.Entries[0].Revision != 3 || d.Entries[1].Revision != 4 {
		t.Errorf("%+v", d)
	}
}

// TestWatchSubscribes: a write between the beginning of a feed and its first read, or between
// reads of history, is delivered once.
func TestWatchSubscribes(t *testing.T) {
	s := open(t, options{})
	put(t, s, "k", "1")
	s.ForgetLog()
	w := watch(t, s, "", 0)
	put(t, s, "k", "2")
	if entries := take(t, w, 2); entries[1].Revision != 2 {
		t.Errorf("%+v", entries)
	}
	put(t, s, "k", "3")
	if entries := take(t, w, 1); entries[0].Revision != 3 {
		t.Errorf("%+v", entries)
	}
	wantIdle(t, w, 3)
}

// TestWatchBatch: the writes of one batch come in one delivery.
func TestWatchBatch(t *testing.T) {
	const batches, keys = 200, 3
	s := open(t, options{})
	w := watch(t, s, "", store.Now)
	var writing sync.WaitGroup
	defer writing.Wait()
	for worker := range 4 {
		writing.Go(func() {
			for range batches / 4 {
				var changes []store.Change
				for key := range keys {
					changes = append(changes, store.Change{Operation: kv.OpPut, Key: fmt.Sprintf("%d%d", worker, key), Value: []byte("1")})
				}
				if _, err := s.Batch(context.Background(), nil, changes); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for seen := 0; seen < batches*keys; {
		entries := next(t, w).Entries
		for i, entry := range entries {
			if entry.Revision != int64(seen+i+1) || entry.Key != fmt.Sprintf("%c%d", entry.Key[0], i%keys) {
				t.Fatalf("entry %d of a delivery behind %d is %s at %d", i, seen, entry.Key, entry.Revision)
			}
		}
		if seen += len(entries); seen%keys != 0 {
			t.Fatalf("a delivery ends within a batch: %d entries", len(entries))
		}
	}
}

// TestWatchLongHistory reads more than one page and skips other keys.
func TestWatchLongHistory(t *testing.T) {
	const total, rare = 4*store.LogEvents + 7, 1000
	s := open(t, options{})
	for written := 0; written < total; {
		var changes []store.Change
		for ; written < total && len(changes) < 1000; written++ {
			key := "common"
			if written%rare == 0 {
				key = "rare"
			}
			changes = append(changes, store.Change{Operation: kv.OpPut, Key: key, Value: []byte(strconv.Itoa(written))})
		}
		if _, err := s.Batch(t.Context(), nil, changes); err != nil {
			t.Fatal(err)
		}
	}
	for i, entry := range take(t, watch(t, s, "", 0), total) {
		if entry.Revision != int64(i+1) || string(entry.Value) != strconv.Itoa(i) {
			t.Fatalf("entry %d is %+v", i, entry)
		}
	}
	for i, entry := range take(t, watch(t, s, "rare", 0), total/rare+1) {
		if string(entry.Value) != strconv.Itoa(i*rare) {
			t.Fatalf("entry %d of the rare key is %+v", i, entry)
		}
	}
	none := watch(t, s, "none", 0)
	for position := int64(0); position < total; {
		d, err := none.Next(t.Context(), 0)
		if err != nil || len(d.Entries) > 0 || d.Position <= position {
			t.Fatalf("from %d: %+v, %v", position, d, err)
		}
		position = d.Position
	}
	// Together these values are larger than a page.
	large := strconv.Quote(strings.Repeat("x", 400_000))
	for range 6 {
		put(t, s, "large", large)
	}
	take(t, watch(t, s, "large", 0), 6)
}

// TestSlowWatch: more events or bytes than the log holds end a slow watch and no other, and it
// resumes without a gap.
func TestSlowWatch(t *testing.T) {
	s := open(t, options{maxBytes: 1 << 30})
	large := strconv.Quote(strings.Repeat("x", 1<<19))
	var batch []store.Change
	for range 1024 {
		batch = append(batch, store.Change{Operation: kv.OpPut, Key: "k", Value: []byte("1")})
	}
	for name, fill := range map[string]func() int{
		"events": func() int {
			if _, err := s.Batch(t.Context(), nil, batch); err != nil {
				t.Fatal(err)
			}
			return len(batch) * store.LogBytes / store.LogEvents
		},
		"bytes": func() int { put(t, s, "k", large); return len(large) },
	} {
		t.Run(name, func(t *testing.T) {
			slow, other := watch(t, s, "k", store.Now), watch(t, s, "other", store.Now)
			before := slow.Position()
			for filled := 0; filled <= store.LogBytes; {
				filled += fill()
			}
			if d, err := slow.Next(t.Context(), patience); !errors.Is(err, kv.ErrSlowWatcher) || slow.Position() != before {
				t.Fatalf("Next = %d entries, %v at %d, want ErrSlowWatcher at %d", len(d.Entries), err, slow.Position(), before)
			}
			if _, subscribed := s.Watchers(); subscribed != 1 {
				t.Errorf("%d watches are subscribed, want the other one", subscribed)
			}
			stats, err := s.DatabaseStats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wantIdle(t, other, stats.Revision)
			take(t, watch(t, s, "k", slow.Position()), int(stats.Revision-before))
			slow.Close()
			other.Close()
		})
	}
}
