package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/postgres/postgrestest"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// TestBackendsShareAStore writes and reads one store through three backends. A read that begins
// after an answer must see that write or a later one, at each of them, and watches see every
// write once and in order.
func TestBackendsShareAStore(t *testing.T) {
	const keys, writes = 5, 300
	url := postgrestest.Database(t)
	stores := make([]*store.Store, 3)
	for i := range stores {
		stores[i] = over(t, databasetest.Open(t, url), options{})
	}
	var answered [keys]atomic.Int64 // the newest version that was acknowledged
	var wg sync.WaitGroup
	watches := make([]*store.Watch, len(stores))
	for i, s := range stores {
		w, err := s.Watch(store.WatchRequest{Keys: kv.AllKeys(), Since: 0, Values: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Close)
		watches[i] = w
	}
	for i := range stores {
		wg.Go(func() {
			for n := range writes {
				k := rand.IntN(keys)
				written, err := stores[i].Write(t.Context(), store.Change{Operation: kv.OpPut, Key: fmt.Sprint("k", k), Value: fmt.Appendf(nil, "%d", n)})
				if err != nil {
					t.Error(err)
					return
				}
				for old := answered[k].Load(); old < written.Entry.Version && !answered[k].CompareAndSwap(old, written.Entry.Version); {
					old = answered[k].Load()
				}
			}
		})
		wg.Go(func() {
			for range 10 * writes {
				k := rand.IntN(keys)
				least := answered[k].Load()
				entry, _, err := stores[i].Get(t.Context(), fmt.Sprint("k", k))
				if least > 0 && (err != nil || entry.Version < least) {
					t.Errorf("backend %d: version %d of k%d, %v; version %d was acknowledged before", i, entry.Version, k, err, least)
					return
				}
			}
		})
	}
	wg.Wait()
	for i, w := range watches {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		next := int64(1)
		for next <= int64(len(stores)*writes) {
			d, err := w.Next(ctx, time.Second)
			if err != nil {
				t.Fatalf("backend %d, behind revision %d: %v", i, next-1, err)
			}
			for _, e := range d.Entries {
				if e.Revision != next {
					t.Fatalf("backend %d: revision %d, want %d", i, e.Revision, next)
				}
				next++
			}
		}
		cancel()
	}
}

// TestOtherBackendDestroys destroys at one backend what another one has in its cache and its log.
func TestOtherBackendDestroys(t *testing.T) {
	url := postgrestest.Database(t)
	a, b := over(t, databasetest.Open(t, url), options{}), over(t, databasetest.Open(t, url), options{})
	put(t, a, "some", "1")
	put(t, a, "some", "2")
	put(t, a, "whole", "3")
	w := watch(t, b, "", store.Now)
	for _, key := range []string{"some", "whole"} {
		get(t, b, key)
		if _, source := get(t, b, key); source != store.FromCache {
			t.Fatalf("%s is not in the cache", key)
		}
	}
	if _, err := a.Destroy(t.Context(), "some", []int64{2}, kv.Condition{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Get(t.Context(), "some"); !errors.Is(err, kv.ErrVersionGone) {
		t.Errorf("a destroyed version: %v", err)
	}
	if _, err := a.DestroyAll(t.Context(), "whole", "somebody", kv.Condition{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Get(t.Context(), "whole"); !errors.Is(err, kv.ErrKeyNotFound) {
		t.Errorf("an erased key: %v", err)
	}
	end := take(t, w, 1)[0]
	if end.Key != "whole" || end.Operation != kv.OpDestroy || end.Version != 2 || end.Author != "somebody" || end.Time == 0 {
		t.Errorf("the end of an erased key is %+v", end)
	}
	late := take(t, watch(t, b, "some", 1), 1)[0]
	if late.Version != 2 || !late.Destroyed || len(late.Value) != 0 {
		t.Errorf("the destroyed version is delivered as %+v", late)
	}
}

// TestLostCommits lets the standby take over that lacks what the primary has acknowledged, as without
// synchronous replication.
func TestLostCommits(t *testing.T) {
	primary := postgrestest.Server(t, nil)
	standby := postgrestest.Standby(t, primary)
	url := strings.Replace(primary.URL("postgres"), primary.Address(), primary.Address()+","+standby.Address(), 1)
	a, b := over(t, databasetest.Open(t, url), options{}), over(t, databasetest.Open(t, url), options{})
	kept := put(t, a, "k", "kept")
	postgrestest.AwaitReplay(t, primary)
	standby.Stop()
	var lost kv.Written
	for range 5 {
		lost = put(t, a, "k", "lost")
	}
	put(t, a, "new", "lost")
	for _, s := range []*store.Store{a, b} {
		get(t, s, "k")
		get(t, s, "k") // from the cache
	}
	watches := []*store.Watch{watch(t, a, "", store.Now), watch(t, b, "k", store.Now)}
	primary.Kill()
	standby, err := standby.Restart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(standby.Kill)
	postgrestest.Promote(t, standby)

	for i, s := range []*store.Store{b, a} {
		var entry kv.Entry
		waitFor(t, func() (ok bool) {
			var err error
			entry, _, err = s.Get(t.Context(), "k")
			return err == nil
		})
		if entry.Version != kept.Entry.Version || string(entry.Value) != "kept" {
			t.Errorf("backend %d serves %+v", i, entry)
		}
		if _, _, err := s.Get(t.Context(), "new"); !errors.Is(err, kv.ErrKeyNotFound) {
			t.Errorf("backend %d: a key that was lost: %v", i, err)
		}
	}
	again := put(t, b, "k", "again")
	if again.Entry.Version != 2 || again.Entry.Revision <= lost.Entry.Revision {
		t.Errorf("the next write is %+v", again)
	}
	for i, w := range watches {
		d := next(t, w)
		if !d.Reset || d.Compacted != d.Position || d.Position >= again.Entry.Revision || d.Position <= lost.Entry.Revision {
			t.Errorf("watch %d: %+v, and then %+v was written", i, d, again)
		}
		if _, err := w.Next(t.Context(), time.Second); !errors.Is(err, kv.ErrWatchEnded) {
			t.Errorf("watch %d goes on: %v", i, err)
		}
		if got := take(t, watch(t, a, "", d.Position), 1)[0]; got.Revision != again.Entry.Revision {
			t.Errorf("watch %d resumes with %+v", i, got)
		}
		if d := next(t, watch(t, b, "", lost.Entry.Revision)); !d.Reset {
			t.Errorf("from a revision that was lost: %+v", d)
		}
	}
}

// TestLossWhileHistoryIsRead: a watch that reads history while commits are lost is told of that too.
func TestLossWhileHistoryIsRead(t *testing.T) {
	s := open(t, options{})
	put(t, s, "k", "1")
	put(t, s, "k", "2")
	s.ForgetLog()
	w := watch(t, s, "", 1)
	release := s.HoldPages()
	first := make(chan store.Delivery)
	go func() {
		d, err := w.Next(context.WithoutCancel(t.Context()), patience)
		if err != nil {
			t.Error(err)
		}
		first <- d
	}()
	waitFor(t, func() bool { return s.Pages() > 0 })
	const lost = 1000
	s.LoseCommits(lost)
	release()
	d := <-first
	if !d.Reset {
		d = next(t, w)
	}
	if !d.Reset || d.Compacted != lost || d.Position != lost {
		t.Errorf("%+v, want a reset", d)
	}
	if _, err := w.Next(t.Context(), time.Second); !errors.Is(err, kv.ErrWatchEnded) {
		t.Errorf("it goes on: %v", err)
	}
}

// TestForgottenCommits: a backend that was away for so long that its last commit is not kept any more
// begins anew.
func TestForgottenCommits(t *testing.T) {
	url := postgrestest.Database(t)
	a, b := over(t, databasetest.Open(t, url), options{}), over(t, databasetest.Open(t, url), options{})
	put(t, a, "k", "1")
	get(t, b, "k")
	get(t, b, "k") // from the cache
	w := watch(t, b, "", store.Now)
	postgrestest.Exec(t, url, `DELETE FROM commits WHERE seq < (SELECT max(seq) FROM commits); UPDATE commits SET seq = seq + 100`)
	if _, source := get(t, b, "k"); source != store.FromDatabase {
		t.Error("the cache was kept")
	}
	put(t, a, "k", "2")
	if entry, _ := get(t, b, "k"); entry.Version != 2 {
		t.Errorf("version %d, want 2", entry.Version)
	}
	if got := take(t, w, 1)[0]; got.Version != 2 {
		t.Errorf("the watch got %+v", got)
	}
}

// TestOneJanitor: of two backends one ends keys and forgets commits, and the other one when it has gone.
func TestOneJanitor(t *testing.T) {
	url := postgrestest.Database(t)
	stores := []*store.Store{open(t, options{url: url}), open(t, options{url: url})}
	leader := func() (found []int) {
		for i, s := range stores {
			if sharing, _ := s.Sharing(); sharing.Leads {
				found = append(found, i)
			}
		}
		return found
	}
	waitFor(t, func() bool { return len(leader()) > 0 })
	if n := len(leader()); n != 1 {
		t.Fatalf("%d backends hold the lease", n)
	}
	first := leader()[0]
	other := stores[1-first]
	stores[first].Close()
	_, err := other.Write(t.Context(), store.Change{Operation: kv.OpPut, Key: "k", Value: []byte("1"), TTL: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	w := watch(t, other, "k", 0)
	if end := take(t, w, 1)[0]; end.Operation == kv.OpPut { // both may come at once
		end = take(t, w, 1)[0]
		if end.Operation != kv.OpExpire {
			t.Errorf("%+v", end)
		}
	}
}

// TestForget: commits go with time, but never the last.
func TestForget(t *testing.T) {
	db := databasetest.Open(t, postgrestest.Database(t))
	s := over(t, db, options{})
	for range 3 {
		put(t, s, "k", "1")
	}
	engine, _ := db.Shared()
	if err := engine.Forget(t.Context(), -time.Hour); err != nil {
		t.Fatal(err)
	}
	last, err := db.Last(t.Context())
	if err != nil || last.Seq != 3 {
		t.Errorf("the last commit is %+v, %v", last, err)
	}
	if err := db.Follow(t.Context(), database.Mark{Seq: 2}, nil); !errors.Is(err, database.ErrForgotten) {
		t.Errorf("from a commit that is not kept: %v", err)
	}
	put(t, s, "k", "2")
}
