package store_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
)

// BenchmarkPutBesideDestroy measures writes while another goroutine destroys versions, in a file
// of some hundred megabytes.
func BenchmarkPutBesideDestroy(b *testing.B) {
	s := open(b, options{url: databasetest.URL(b)})
	large := `"` + strings.Repeat("v", 1<<20-2) + `"`
	for i := range 400 {
		put(b, s, "large"+strconv.Itoa(i), large)
	}
	for _, destroying := range []bool{false, true} {
		b.Run(fmt.Sprint("destroying=", destroying), func(b *testing.B) {
			stop, ended, destroyed := make(chan struct{}), make(chan struct{}), 0
			go func() {
				defer close(ended)
				for ; destroying; destroyed++ {
					select {
					case <-stop:
						return
					default:
					}
					w, err := tryPut(b.Context(), s, "secret", benchValue)
					if err == nil {
						_, err = s.Destroy(b.Context(), "secret", []int64{w.Entry.Version}, kv.Condition{})
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			}()
			took := make([]time.Duration, 0, b.N)
			for b.Loop() {
				began := time.Now()
				put(b, s, "key"+strconv.Itoa(len(took)%benchKeys), benchValue)
				took = append(took, time.Since(began))
			}
			close(stop)
			<-ended
			slices.Sort(took)
			for name, part := range map[string]float64{"p50-ms": 0.5, "p99-ms": 0.99, "max-ms": 1} {
				b.ReportMetric(float64(took[int(part*float64(len(took)-1))].Microseconds())/1000, name)
			}
			b.ReportMetric(float64(destroyed), "destroyed")
		})
	}
}
