package store_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// BenchmarkPublish measures what watchers cost the writer: those of other keys, those with
// prefixes of many lengths, and those of the key, whose goroutines must be woken.
func BenchmarkPublish(b *testing.B) {
	written := []kv.Entry{{Key: "app/db/host", Value: []byte("1"), Operation: kv.OpPut}}
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
					written[0].Revision = int64(i + 1)
					s.Publish(written, int64(i+1))
				}
				b.StopTimer()
			})
		}
	}
}

// BenchmarkWatchHistory measures events that are read from the database, for a watch of all keys
// and for one of a hundredth of them.
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

// BenchmarkWriteBesideWatchers measures a write with its commit beside watchers of all keys that
// read what they get. When they are too many to keep up they are cut, and come back where they
// were, as clients do.
func BenchmarkWriteBesideWatchers(b *testing.B) {
	for _, watchers := range []int{0, 10, 1_000, 10_000} {
		b.Run(strconv.Itoa(watchers), func(b *testing.B) {
			s := open(b, options{})
			ctx, cancel := context.WithCancel(b.Context())
			var watching sync.WaitGroup
			var cut atomic.Int64
			for range watchers {
				w := watch(b, s, "", store.Now)
				watching.Go(func() {
					defer func() { w.Close() }()
					for ctx.Err() == nil {
						_, err := w.Next(ctx, time.Hour)
						if errors.Is(err, kv.ErrSlowWatcher) {
							cut.Add(1)
							var again *store.Watch
							again, err = s.Watch(store.WatchRequest{Keys: kv.AllKeys(), Since: w.Position(), Values: true})
							if err == nil {
								w.Close()
								w = again
							}
						}
						if err != nil && ctx.Err() == nil {
							b.Error(err)
							return
						}
					}
				})
			}
			b.SetParallelism(8)
			b.ResetTimer()
			b.RunParallel(func(p *testing.PB) {
				for i := 0; p.Next(); i++ {
					if _, err := tryPut(b.Context(), s, "k"+strconv.Itoa(i%100), benchValue); err != nil {
						b.Error(err)
					}
				}
			})
			b.StopTimer()
			cancel()
			watching.Wait()
			b.ReportMetric(float64(cut.Load()), "cut")
		})
	}
}

// BenchmarkComeback measures how long watchers take to catch up that all come back after a
// restart of the store, and how long a ping takes meanwhile.
func BenchmarkComeback(b *testing.B) {
	const watchers, behind = 4_000, 4_096
	url := databasetest.URL(b)
	db := databasetest.Open(b, url)
	s := over(b, db, options{maxKeys: 10, maxBytes: 1000})
	for written := 0; written < behind; {
		var changes []store.Change
		for ; written < behind && len(changes) < 1024; written++ {
			changes = append(changes, store.Change{Operation: kv.OpPut, Key: "k" + strconv.Itoa(written%100), Value: []byte(benchValue)})
		}
		if _, err := s.Batch(b.Context(), nil, changes); err != nil {
			b.Fatal(err)
		}
	}
	s.Close()
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	for range b.N {
		s := open(b, options{url: url})
		var watching sync.WaitGroup
		for range watchers {
			w := watch(b, s, "", 0)
			watching.Go(func() {
				defer w.Close()
				for seen := 0; seen < behind; {
					d, err := w.Next(context.Background(), time.Minute)
					if err != nil {
						b.Error(err)
						return
					}
					seen += len(d.Entries)
				}
			})
		}
		var done atomic.Bool
		var slowest time.Duration
		var pinging sync.WaitGroup
		pinging.Go(func() {
			for !done.Load() {
				began := time.Now()
				if err := s.Ping(context.Background()); err != nil {
					b.Error(err)
				}
				slowest = max(slowest, time.Since(began))
				time.Sleep(10 * time.Millisecond)
			}
		})
		watching.Wait()
		done.Store(true)
		pinging.Wait()
		b.ReportMetric(float64(slowest.Microseconds())/1000, "ms/slowest-ping")
		b.StopTimer()
		s.Close()
		b.StartTimer()
	}
}
