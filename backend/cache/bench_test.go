package cache_test

import (
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"testing"

	"kvstore/backend/cache"
)

const benchKeys = 1 << 14

func benchKeyNames(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = "app/service/" + strconv.Itoa(i)
	}
	rand.Shuffle(n, func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	return keys
}

func newBench(b *testing.B, maxKeys int, keys []string) *cache.Cache[[]byte] {
	b.Helper()
	c := newCache(b, cache.Config[[]byte]{
		MaxKeys:  maxKeys,
		MaxBytes: 1 << 40,
		Size:     func(key string, v []byte) int64 { return int64(len(key) + len(v)) },
	})
	for _, key := range keys {
		c.Put(key, benchValue)
	}
	return c
}

var benchValue = make([]byte, 200)

// bench runs f with numbers below n, in one goroutine and then in parallel.
func bench(b *testing.B, n int, f func(b *testing.B, i int)) {
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			f(b, i%n)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		var start atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			for i := int(start.Add(7919)); pb.Next(); i++ {
				f(b, i%n)
			}
		})
	})
}

func BenchmarkGetHit(b *testing.B) {
	keys := benchKeyNames(benchKeys)
	c := newBench(b, benchKeys, keys)
	bench(b, len(keys), func(b *testing.B, i int) {
		if _, ok := c.Get(keys[i]); !ok {
			b.Fatal("miss")
		}
	})
}

func BenchmarkGetMiss(b *testing.B) {
	keys := benchKeyNames(benchKeys)
	c := newBench(b, 1, keys[:1])
	bench(b, len(keys)-1, func(b *testing.B, i int) {
		if _, ok := c.Get(keys[i+1]); ok {
			b.Fatal("hit")
		}
	})
}

func BenchmarkReplace(b *testing.B) {
	keys := benchKeyNames(benchKeys)
	c := newBench(b, benchKeys, keys)
	bench(b, len(keys), func(_ *testing.B, i int) { c.Put(keys[i], benchValue) })
}

// BenchmarkEvict puts keys that are not resident into a full cache.
func BenchmarkEvict(b *testing.B) {
	keys := benchKeyNames(2 * benchKeys)
	c := newBench(b, benchKeys, keys)
	bench(b, len(keys), func(_ *testing.B, i int) { c.Put(keys[i], benchValue) })
}

// BenchmarkMissFill measures the work of the cache for a read from the database.
func BenchmarkMissFill(b *testing.B) {
	keys := benchKeyNames(2 * benchKeys)
	c := newBench(b, benchKeys, keys)
	bench(b, len(keys), func(_ *testing.B, i int) {
		if _, ok := c.Get(keys[i]); !ok {
			c.Fill(c.Lease(keys[i]), benchValue)
		}
	})
}

// BenchmarkGrow fills an empty cache, which adds slots as it grows.
func BenchmarkGrow(b *testing.B) {
	keys := benchKeyNames(benchKeys)
	b.ReportAllocs()
	for b.Loop() {
		newBench(b, benchKeys, keys)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchKeys), "ns/key")
}
