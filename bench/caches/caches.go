// Package caches compares caches in one process: the times of Get and Put, and the hit ratios of
// traces. It checks the values that Get returns.
package caches

import (
	"fmt"
	"math/rand/v2"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/maypok86/otter/v2"

	"kvstore/backend/cache"
	"kvstore/backend/kv"
	"kvstore/bench/generator"
)

// A Cache is a cache to compare. Its values are entries, like those of the service.
type Cache interface {
	Get(key string) (kv.Entry, bool)
	// Put adds or replaces a value.
	Put(key string, value kv.Entry)
	// Fill adds a value that was read elsewhere after a Get missed.
	Fill(key string, value kv.Entry)
	Close()
}

// A Kind makes caches.
type Kind struct {
	Name  string
	About string
	// Strict means that a key stays until as many others were used as the cache has room for, and
	// no longer.
	Strict bool
	// New returns an empty cache for that many keys. In a steady cache, other goroutines do not
	// affect the order.
	New func(keys int, steady bool) (Cache, error)
}

// Kinds are all kinds. The first one is ours.
var Kinds = []Kind{
	{"ours", "backend/cache: strict LRU by keys and by bytes, values in ristretto, leases", true, newOurs},
	{"golang-lru", "hashicorp/golang-lru/v2: strict LRU by keys, one mutex", true, newLRU},
	{"otter", "maypok86/otter/v2: W-TinyLFU, not LRU: it may refuse a new key, and applies reads and writes to its order later, in batches", false, newOtter},
}

type ours struct{ *cache.Cache[kv.Entry] }

func newOurs(keys int, _ bool) (Cache, error) {
	c, err := cache.New(cache.Config[kv.Entry]{
		MaxKeys:  keys,
		MaxBytes: 1 << 40,
		Size:     func(_ string, e kv.Entry) int64 { return e.Size() },
	})
	return ours{c}, err
}

func (c ours) Fill(key string, value kv.Entry) { c.Cache.Fill(c.Lease(key), value) }

type golangLRU struct{ *lru.Cache[string, kv.Entry] }

func newLRU(keys int, _ bool) (Cache, error) {
	c, err := lru.New[string, kv.Entry](keys)
	return golangLRU{c}, err
}

func (c golangLRU) Put(key string, value kv.Entry)  { c.Add(key, value) }
func (c golangLRU) Fill(key string, value kv.Entry) { c.Add(key, value) }
func (c golangLRU) Close()                          {}

type otterCache struct{ *otter.Cache[string, kv.Entry] }

func newOtter(keys int, steady bool) (Cache, error) {
	options := &otter.Options[string, kv.Entry]{MaximumSize: keys}
	if steady {
		options.Executor = func(task func()) { task() }
	}
	c, err := otter.New(options)
	if err != nil {
		return nil, fmt.Errorf("otter: %w", err)
	}
	return otterCache{c}, nil
}

func (c otterCache) Get(key string) (kv.Entry, bool) { return c.GetIfPresent(key) }
func (c otterCache) Put(key string, value kv.Entry)  { c.Set(key, value) }
func (c otterCache) Fill(key string, value kv.Entry) { c.Set(key, value) }
func (c otterCache) Close()                          { c.StopAllGoroutines() }

// Entries returns n keys with their values; the version is the number of the key.
func Entries(n int) []kv.Entry {
	entries := make([]kv.Entry, n)
	value := make([]byte, 100)
	for i := range entries {
		entries[i] = kv.Entry{Key: fmt.Sprintf("app/service/%07d", i), Value: value, Version: int64(i)}
	}
	return entries
}

// right reports whether got is the entry that was put as want.
func right(got, want *kv.Entry) bool { return got.Version == want.Version && got.Key == want.Key }

// Trace returns random key numbers below keys with that skew. It is deterministic.
func Trace(skew float64, keys, length int) []int {
	zipf := generator.NewZipf(rand.New(rand.NewPCG(3, 4)), skew, keys) //nolint:gosec // the same in each run is wanted
	trace := make([]int, length)
	for i := range trace {
		trace[i] = zipf.Next()
	}
	return trace
}

// Replay gets each key of the trace from a new cache, and fills the ones that miss. It returns
// whether each request hit. An error means a wrong value.
func Replay(kind Kind, room int, entries []kv.Entry, trace []int) ([]bool, error) {
	c, err := kind.New(room, true)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	hits := make([]bool, len(trace))
	for i, number := range trace {
		want := &entries[number]
		got, ok := c.Get(want.Key)
		if !ok {
			c.Fill(want.Key, *want)
			continue
		}
		if !right(&got, want) {
			return nil, fmt.Errorf("%s, request %d: asked for %s, got %s version %d",
				kind.Name, i, want.Key, got.Key, got.Version)
		}
		hits[i] = true
	}
	return hits, nil
}

// Share returns the share of hits.
func Share(hits []bool) float64 {
	if len(hits) == 0 {
		return 0
	}
	n := 0
	for _, hit := range hits {
		if hit {
			n++
		}
	}
	return float64(n) / float64(len(hits))
}
