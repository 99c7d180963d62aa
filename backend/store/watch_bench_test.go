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
