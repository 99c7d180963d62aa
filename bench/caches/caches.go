// Package caches compares caches in one process: how long a Get and a Put take,
// and how many requests of a trace they answer. What a Get returns is checked.
package caches

import (
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/maypok86/otter/v2"

	"kvstore/backend/cache"
	"kvstore/backend/kv"
)

// A Cache is one of those that are compared. Its values are entries, as those of
// the service.
type Cache interface {
	Get(key string) (kv.Entry, bool)
	// Put adds or replaces.
	Put(key string, value kv.Entry)
	// Fill adds what was read elsewhere after a Get that missed.
	Fill(key string, value kv.Entry)
	Close()
}

// A Kind makes caches.
type Kind struct {
	Name  string
	About string
	// Strict tells that a key which was put is there until as many others were
	// used as the cache has room for, and not longer.
	Strict bool
	// New returns an empty cache for so many keys. In a steady one nothing that
	// matters to the order is left to other goroutines.
	New func(keys int, steady bool) (Cache, error)
}

// Kinds are all kinds; the first is ours.
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

// right tells whether got is the entry that was put as want.
func right(got, want *kv.Entry) bool { return got.Version == want.Version && got.Key == want.Key }
