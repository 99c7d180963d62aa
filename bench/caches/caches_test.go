package caches_test

import (
	"slices"
	"testing"
	"time"

	"kvstore/bench/caches"
)

// Every cache passes its own checks: its keys are found with the right values.
func TestRun(t *testing.T) {
	const room = 100
	entries := caches.EntriesFor(room)
	for _, kind := range caches.Kinds {
		for _, operation := range caches.Operations {
			t.Run(kind.Name+" "+operation.Name, func(t *testing.T) {
				b, err := caches.NewBench(kind, room, entries)
				if err != nil {
					t.Fatal(err)
				}
				defer b.Close()
				for _, goroutines := range []int{1, 4} {
					m := b.Run(operation, goroutines, 5*time.Millisecond)
					if m.Operations == 0 || m.Wrong > 0 || kind.Strict && m.Missing > 0 {
						t.Errorf("%d goroutines: %+v", goroutines, m)
					}
				}
			})
		}
	}
}

func TestReplay(t *testing.T) {
	entries := caches.Entries(1000)
	trace := caches.Trace(0.9, len(entries), 20_000)
	replay := func(kind caches.Kind) []bool {
		hits, err := caches.Replay(kind, 50, entries, trace)
		if err != nil {
			t.Fatal(err)
		}
		return hits
	}
	first := replay(caches.Kinds[0])
	if !slices.Equal(first, replay(caches.Kinds[1])) {
		t.Error("our cache and golang-lru do not hit at the same requests")
	}
	if share := caches.Share(first); share < 0.3 || share > 0.7 {
		t.Errorf("%.2f of the requests hit", share)
	}
}

func TestReplayOrder(t *testing.T) {
	entries := caches.Entries(3)
	for _, kind := range caches.Kinds[:2] {
		hits, err := caches.Replay(kind, 2, entries, []int{0, 1, 0, 2, 0, 1})
		if err != nil || !slices.Equal(hits, []bool{false, false, true, false, true, false}) {
			t.Errorf("%s: %v, %v", kind.Name, hits, err)
		}
	}
}
