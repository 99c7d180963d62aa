package store_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// held returns a store whose writer is stuck after the commit of the key "held" until release
// is called.
func held(t *testing.T, o options) (s *store.Store, goOn func()) {
	t.Helper()
	hold, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	o.hooks.AfterCommit = func() { once.Do(func() { close(hold); <-release }) }
	s = over(t, databasetest.Open(t, databasetest.URL(t)), o)
	var first sync.WaitGroup
	first.Go(func() { put(t, s, "held", "1") })
	<-hold
	return s, func() { close(release); first.Wait() }
}

// Writes over a bound are refused at once and not written. Accepted writes are made, and then
// there is room again.
func TestOverload(t *testing.T) {
	value := strings.Repeat("x", 1000)
	for name, c := range map[string]struct {
		options  options
		accepted int // besides the one that is held
		option   string
	}{
		"writes": {options{maxKeys: 10, maxBytes: 1 << 20, maxQueuedWrites: 10}, 9, "KV_MAX_QUEUED_WRITES"},
		"bytes":  {options{maxKeys: 10, maxBytes: 1 << 20, maxQueuedBytes: 5500}, 5, "KV_MAX_QUEUED_BYTES"},
	} {
		t.Run(name, func(t *testing.T) {
			s, goOn := held(t, c.options)
			var writing sync.WaitGroup
			for i := range c.accepted {
				writing.Go(func() { put(t, s, fmt.Sprint("k", i), value) })
			}
			waitFor(t, func() bool { writes, _ := s.Queued(); return writes == c.accepted+1 })
			for range 3 {
				_, err := tryPut(t.Context(), s, "refused", value)
				if !errors.Is(err, kv.ErrOverloaded) || !strings.Contains(err.Error(), c.option) {
					t.Errorf("one more: %v", err)
				}
			}
			if _, err := s.Batch(t.Context(), nil, []store.Change{putOf("refused", value)}); !errors.Is(err, kv.ErrOverloaded) {
				t.Errorf("a batch: %v", err)
			}
			if name == "writes" { // a destroy has no bytes
				if _, err := s.Destroy(t.Context(), "held", []int64{1}, kv.Condition{}); !errors.Is(err, kv.ErrOverloaded) {
					t.Errorf("a destroy: %v", err)
				}
			}
			if _, _, err := s.Get(t.Context(), "none"); !errors.Is(err, kv.ErrKeyNotFound) {
				t.Errorf("reads go on: %v", err)
			}
			goOn()
			writing.Wait()
			if writes, bytes := s.Queued(); writes != 0 || bytes != 0 {
				t.Errorf("afterwards %d writes, %d bytes wait", writes, bytes)
			}
			if written := put(t, s, "refused", value); written.Entry.Version != 1 || int(written.Entry.Revision) != c.accepted+2 {
				t.Errorf("afterwards: %+v", written)
			}
		})
	}
}

// A batch larger than the bound is made when nothing else waits.
func TestWhatIsLargerThanTheBound(t *testing.T) {
	s := open(t, options{maxQueuedWrites: 2, maxQueuedBytes: 10})
	changes := []store.Change{putOf("a", "12345678"), putOf("b", "12345678"), putOf("c", "12345678")}
	if result, err := s.Batch(t.Context(), nil, changes); err != nil || result.Revision != 3 {
		t.Errorf("%+v, %v", result, err)
	}
}

// However a write ends, it is counted no more.
func TestFailedWritesAreUncounted(t *testing.T) {
	db, faults := databasetest.OpenFaulty(t, databasetest.URL(t))
	s := over(t, db, options{maxKeys: 10, maxBytes: 1000})
	faults.FailCommits(1)
	if _, err := tryPut(t.Context(), s, "k", "1"); !errors.Is(err, kv.ErrUnavailable) {
		t.Error(err)
	}
	_, err := s.Write(t.Context(), store.Change{Operation: kv.OpDelete, Key: "none"})
	if !errors.Is(err, kv.ErrKeyNotFound) {
		t.Error(err)
	}
	if writes, bytes := s.Queued(); writes != 0 || bytes != 0 {
		t.Errorf("%d writes, %d bytes wait", writes, bytes)
	}
}

// The statistics count writes as the bounds do, each change of a batch as one.
func TestStatsOfTheQueue(t *testing.T) {
	s, goOn := held(t, options{maxKeys: 10, maxBytes: 1 << 20, maxQueuedWrites: 10, maxQueuedBytes: 100})
	var writing sync.WaitGroup
	writing.Go(func() {
		if _, err := s.Batch(t.Context(), nil, []store.Change{putOf("a", "12345678"), putOf("b", "12345678"), putOf("c", "12345678")}); err != nil {
			t.Error(err)
		}
	})
	waitFor(t, func() bool { return s.Stats().QueuedWrites == 4 })
	if got := s.Stats(); got.QueuedBytes != 3*8+1 || got.MaxQueuedWrites != 10 || got.MaxQueuedBytes != 100 {
		t.Errorf("%+v", got)
	}
	goOn()
	writing.Wait()
	if got := s.Stats(); got.QueuedWrites != 0 || got.QueuedBytes != 0 {
		t.Errorf("afterwards %+v", got)
	}
}
