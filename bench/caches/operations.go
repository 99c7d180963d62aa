package caches

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"kvstore/backend/kv"
)

// An Operation is what is measured of a full cache.
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
	{"get hit", "Get of a key that is there, all alike", getHit},
	{"fill", "Put of a key that is not there, so that another leaves", fill},
	{"update", "Put of a key that is there, all alike", update},
}

const (
	// fillKeys is how many times more keys than room a fill goes through before
	// the first one comes again.
	fillKeys = 16
	// burst is how many operations are made between two looks at the clock.
	burst = 256
)

// A Bench is a full cache and the keys that it is asked for.
type Bench struct {
	kind    Kind
	room    int
	cache   Cache
	entries []kv.Entry
	order   []int32 // numbers below room, drawn in advance
	next    atomic.Int64
}

// NewBench returns a cache with room for so many keys, which the first of entries
// fill; there are fillKeys times as many.
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

// EntriesFor returns as many entries as a bench of that room needs.
func EntriesFor(room int) []kv.Entry { return Entries(fillKeys * room) }

// Close closes the cache.
func (b *Bench) Close() { b.cache.Close() }

// A Measurement is what a run came to.
type Measurement struct {
	Operations int64
	Wrong      int64 // Gets with the value of another key
	Missing    int64 // Gets that missed although the key had been put
	Elapsed    time.Duration
}

// Run makes the operation from so many goroutines for that time. It first puts
// what has to be there.
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

// burst makes that many operations, with the choices that begin at that place.
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

// checkLast checks after a fill by one goroutine that the keys which were put last
// are there, as many as there is room for, and the one before them is not.
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
