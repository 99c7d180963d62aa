package store_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"kvstore/backend/store"
)

const benchKeys = 1000

var benchValue = `"` + strings.Repeat("v", 98) + `"`

// BenchmarkPut makes durable writes from several callers at once.
func BenchmarkPut(b *testing.B) {
	for _, callers := range []int{1, 16, 64} {
		b.Run("callers="+strconv.Itoa(callers), func(b *testing.B) {
			s := open(b, options{})
			var next atomic.Int64
			b.SetParallelism(callers) // times GOMAXPROCS; run with -cpu 1 for the exact number
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					put(b, s, "key"+strconv.FormatInt(next.Add(1)%benchKeys, 10), benchValue)
				}
			})
			b.StopTimer()
			stats, err := s.DatabaseStats(b.Context())
			if err != nil || stats.Versions != int64(b.N) {
				b.Fatalf("%d versions are stored, %v, want %d", stats.Versions, err, b.N)
			}
		})
	}
}

// BenchmarkGet reads keys that are all in the cache, and keys that never are.
func BenchmarkGet(b *testing.B) {
	for name, maxKeys := range map[string]int{"hit": benchKeys, "miss": 1} {
		b.Run(name, func(b *testing.B) {
			s := open(b, options{maxKeys: maxKeys})
			for i := range benchKeys {
				put(b, s, "key"+strconv.Itoa(i), strconv.Itoa(i))
			}
			before := s.Stats().Cache
			var next atomic.Int64
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := strconv.FormatInt(next.Add(1)%benchKeys, 10)
					if entry, _ := get(b, s, "key"+i); string(entry.Value) != i {
						b.Errorf("key%s holds %s", i, entry.Value)
						return
					}
				}
			})
			b.StopTimer()
			after := s.Stats().Cache
			if name == "hit" && after.Misses != before.Misses {
				b.Errorf("%d misses", after.Misses-before.Misses)
			}
		})
	}
}

// BenchmarkPutWithRetention writes from 64 callers, without retention and with one version to
// delete for each write. With retention the file must not grow.
func BenchmarkPutWithRetention(b *testing.B) {
	const callers = 64
	for _, c := range []struct{ keys, keep, before int }{{5000, 0, 0}, {5000, 1, 0}, {5000, 10, 0}, {1, 20_000, 20_000}} {
		b.Run(fmt.Sprintf("keys=%d/keep=%d", c.keys, c.keep), func(b *testing.B) {
			s := open(b, options{keep: c.keep})
			history(b, s, "key0", c.before, "1")
			var next atomic.Int64
			var waiting sync.WaitGroup
			b.ResetTimer()
			for range callers {
				waiting.Go(func() {
					for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
						put(b, s, "key"+strconv.FormatInt(n%int64(c.keys), 10), benchValue)
					}
				})
			}
			waiting.Wait()
			b.StopTimer()
			stats, err := s.DatabaseStats(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
			b.ReportMetric(float64(stats.Versions), "versions")
			b.ReportMetric(float64(stats.Bytes)/(1<<20), "MiB")
		})
	}
}

// BenchmarkPutBesideGets writes from 16 callers while others read batches of 128 keys.
func BenchmarkPutBesideGets(b *testing.B) {
	for _, readers := range []int{0, 4} {
		b.Run("readers="+strconv.Itoa(readers), func(b *testing.B) {
			s := open(b, options{})
			gets := make([]store.Change, 128)
			for i := range gets {
				gets[i] = getOf("key" + strconv.Itoa(i))
				put(b, s, gets[i].Key, benchValue)
			}
			var next, batches atomic.Int64
			var reading, writing sync.WaitGroup
			b.ResetTimer()
			for range readers {
				reading.Go(func() {
					for next.Load() < int64(b.N) {
						if _, err := s.Batch(b.Context(), nil, gets); err != nil {
							b.Error(err)
						}
						batches.Add(1)
					}
				})
			}
			for range 16 {
				writing.Go(func() {
					for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
						put(b, s, "key"+strconv.FormatInt(n%benchKeys, 10), benchValue)
					}
				})
			}
			writing.Wait()
			b.StopTimer()
			reading.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
			b.ReportMetric(float64(batches.Load())/b.Elapsed().Seconds(), "batches/s")
		})
	}
}
