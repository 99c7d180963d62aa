package store_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// BenchmarkPublish is what a write costs the writer for the watchers that there are:
// those of other keys, of prefixes that differ in length too, and those of the key,
// whose goroutines must be woken.
func BenchmarkPublish(b *testing.B) {
	written := []kv.Written{{Entry: kv.Entry{Key: "app/db/host", Value: []byte("1"), Operation: kv.OpPut}}}
	for _, kind := range []struct {
		name   string
		prefix func(i int) string
	}{
		{"others", func(i int) string { return "other/" + strconv.Itoa(i) }},
		{"lengths", func(i int) string { return fmt.Sprintf("app/%0*d", 1+i%500, i) }},
		{"matching", func(int) string { return "app/" }},
	} {
		for _, watchers := range []int{0, 1_000, 10_000} {
			b.Run(fmt.Sprintf("%s=%d", kind.name, watchers), func(b *testing.B) {
				s := open(b, options{})
				ctx, cancel := context.WithCancel(b.Context())
				defer cancel()
				for i := range watchers {
					w := watch(b, s, kind.prefix(i), store.Now)
					go func() {
						for ctx.Err() == nil {
							if _, err := w.Next(ctx, time.Hour); err != nil && ctx.Err() == nil {
								b.Errorf("watcher %d: %v", i, err)
								return
							}
						}
					}()
				}
				b.ResetTimer()
				for i := range b.N {
					written[0].Entry.Revision = int64(i + 1)
					s.Publish(written, int64(i+1))
				}
				b.StopTimer()
			})
		}
	}
}

// BenchmarkWatchHistory is what an event costs that is read from the database, for a
// watch of all keys and for one of a hundredth of them.
func BenchmarkWatchHistory(b *testing.B) {
	const events, rare = 20_000, 100
	s := open(b, options{})
	for written := 0; written < events; {
		var changes []store.Change
		for ; written < events && len(changes) < 1000; written++ {
			changes = append(changes, store.Change{Operation: kv.OpPut, Key: "k" + strconv.Itoa(written%rare), Value: []byte(benchValue)})
		}
		if _, err := s.Batch(b.Context(), nil, changes); err != nil {
			b.Fatal(err)
		}
	}
	for prefix, want := range map[string]int{"": events, "k99": events / rare} {
		b.Run("of="+strconv.Itoa(events/want), func(b *testing.B) {
			for range b.N {
				w := watch(b, s, prefix, 0)
				take(b, w, want)
				w.Close()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*events), "ns/revision")
		})
	}
}
