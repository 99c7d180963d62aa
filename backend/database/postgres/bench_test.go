package postgres_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kvstore/backend/cache"
	"kvstore/backend/database/postgres/postgrestest"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

const benchKeys = 1000

var benchValue = make([]byte, 256)

// BenchmarkRow compares a durable write of one caller with the least that a durable write can cost: one row in
// a transaction of its own, through the driver alone. The two take turns.
func BenchmarkRow(b *testing.B) {
	url := postgrestest.Server(b, nil).URL("postgres")
	conn := connect(b, url)
	exec(b, conn, "CREATE TABLE rows (id bigserial PRIMARY KEY, value bytea)")
	s := openStore(b, url)
	var row, write []time.Duration
	for n := 0; b.Loop(); n++ {
		began := time.Now()
		if _, err := conn.Exec(b.Context(), "INSERT INTO rows (value) VALUES ($1)", benchValue); err != nil {
			b.Fatal(err)
		}
		between := time.Now()
		put1(b, s, n)
		if n >= benchKeys { // before, each is of a new key
			row, write = append(row, between.Sub(began)), append(write, time.Since(between))
		}
	}
	if len(row) == 0 {
		return
	}
	slices.Sort(row)
	slices.Sort(write)
	half := len(row) / 2
	b.ReportMetric(float64(row[half].Microseconds()), "us/row-p50")
	b.ReportMetric(float64(write[half].Microseconds()), "us/write-p50")
	b.ReportMetric(float64(write[half])/float64(row[half]), "write/row")
}

func put1(b *testing.B, s *store.Store, n int) {
	b.Helper()
	change := store.Change{Operation: kv.OpPut, Key: fmt.Sprint("key", n%benchKeys), Value: benchValue}
	if _, err := s.Write(context.WithoutCancel(b.Context()), change); err != nil {
		b.Error(err)
	}
}

// BenchmarkWrite makes durable writes of several callers at once, on a server that syncs its files.
func BenchmarkWrite(b *testing.B) {
	url := postgrestest.Server(b, nil).URL("postgres")
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) {
			s := openStore(b, url)
			var next atomic.Int64
			run := func(last int64) {
				var writing sync.WaitGroup
				for range callers {
					writing.Go(func() {
						for n := next.Add(1); n <= last; n = next.Add(1) {
							put1(b, s, int(n))
						}
					})
				}
				writing.Wait()
			}
			run(benchKeys) // so that their heads are known
			next.Store(0)
			b.ResetTimer()
			run(int64(b.N))
		})
	}
}

func openStore(b *testing.B, url string) *store.Store {
	b.Helper()
	entries, err := cache.New(cache.Config[kv.Entry]{MaxKeys: 100, MaxBytes: 1 << 20, Size: func(_ string, e kv.Entry) int64 { return e.Size() }})
	if err != nil {
		b.Fatal(err)
	}
	s, err := store.New(store.Config{
		Database: open(b, url), Cache: entries, MaxValueBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close(); entries.Close() })
	return s
}
