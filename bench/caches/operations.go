package caches

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"kvstore/backend/kv"
)

// An Operation is an operation of a full cache that is measured.
type Operation struct {
	Name  string
	About string
	kind  int
}

const (
	getHit = iota
	fill
	update
)

// Operations are all operations.
var Operations = []Operation{
	{"get hit", "Get of a random key in the cache", getHit},
	{"fill", "Put of a new key, which evicts another one", fill},
	{"update", "Put of a random key in the cache", update},
}

const (
	// fillKeys is the number of keys in a fill, as a multiple of the capacity, before the first
	// one repeats.
	fillKeys = 16
	// burst is the number of operations between two reads of the clock.
	burst = 256
)

// A Bench is a full cache with the keys of the operations.
type Bench struct {
	kind    Kind
	room    int
	cache   Cache
	entries []kv.Entry
	order   []int32 // numbers below room, drawn in advance
	next    atomic.Int64
}

// NewBench returns a cache with the capacity room, filled with the first entries. There must be
// fillKeys times as many entries.
func NewBench(kind Kind, room int, entries []kv.Entry) (*Bench, error) {
	if len(entries) < fillKeys*room {
		return nil, fmt.Errorf("%d entries for a cache of %d are too few", len(entries), room)
	}
	c, err := kind.New(room, false)
	if err != nil {
		return nil, err
	}
	b := &Bench{kind: kind, room: room, cache: c, entries: entries[:fillKeys*room], order: make([]int32, 1<<16)}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same choices for each cache are wanted
	for i := range b.order {
		b.order[i] = int32(random.IntN(room))
	}
	return b, nil
}

// EntriesFor returns the entries for a Bench of that capacity.
func EntriesFor(room int) []kv.Entry { return Entries(fillKeys * room) }

// Close closes the cache.
func (b *Bench) Close() { b.cache.Close() }

// A Measurement is the result of a run.
type Measurement struct {
	Operations int64
	Wrong      int64 // Gets with the value of another key
	Missing    int64 // Gets that missed although the key had been put
	Elapsed    time.Duration
}

// Run runs the operation in that many goroutines for a duration. It first puts the keys that must
// be there.
func (b *Bench) Run(o Operation, goroutines int, d time.Duration) Measurement {
	for i := range b.entries[:b.room] {
		b.cache.Put(b.entries[i].Key, b.entries[i])
	}
	b.next.Store(int64(b.room))
	parts := make([]Measurement, goroutines)
	var group sync.WaitGroup
	start := time.Now()
	end := start.Add(d)
	for i := range goroutines {
		group.Go(func() {
			m := &parts[i]
			for at := i * 7919; time.Now().Before(end); at += burst {
				b.burst(o, at, m)
				m.Operations += burst
			}
		})
	}
	group.Wait()
	total := Measurement{Elapsed: time.Since(start)}
	for _, m := range parts {
		total.Operations += m.Operations
		total.Wrong += m.Wrong
		total.Missing += m.Missing
	}
	if b.kind.Strict && o.kind == fill && goroutines == 1 {
		b.checkLast(&total)
	}
	return total
}

// burst runs a burst of operations, with the keys that begin at index at.
func (b *Bench) burst(o Operation, at int, m *Measurement) {
	switch o.kind {
	case getHit:
		for i := range burst {
			want := &b.entries[b.order[(at+i)%len(b.order)]]
			got, ok := b.cache.Get(want.Key)
			switch {
			case !ok:
				m.Missing++
			case !right(&got, want):
				m.Wrong++
			}
		}
	case fill:
		first := int(b.next.Add(burst)) - burst
		for i := range burst {
			entry := &b.entries[(first+i)%len(b.entries)]
			b.cache.Put(entry.Key, *entry)
		}
	case update:
		for i := range burst {
			entry := &b.entries[b.order[(at+i)%len(b.order)]]
			b.cache.Put(entry.Key, *entry)
		}
	}
}

// checkLast checks, after a fill by one goroutine, that exactly the last keys are there, as many as
// the capacity.
func (b *Bench) checkLast(m *Measurement) {
	after := int(b.next.Load())
	for i := after - b.room; i < after; i++ {
		want := &b.entries[i%len(b.entries)]
		got, ok := b.cache.Get(want.Key)
		switch {
		case !ok:
			m.Missing++
		case !right(&got, want):
			m.Wrong++
		}
	}
	if _, ok := b.cache.Get(b.entries[(after-b.room-1)%len(b.entries)].Key); ok {
		m.Wrong++
	}
}
