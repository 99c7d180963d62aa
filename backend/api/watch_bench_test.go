package api_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kvstore/backend/api"
	"kvstore/backend/cache"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// serveWatched serves a store until stop is called.
func serveWatched(b *testing.B, url string) (s *store.Store, address string, stop func()) {
	b.Helper()
	db := databasetest.Open(b, url)
	entries, err := cache.New(cache.Config[kv.Entry]{MaxKeys: 1000, MaxBytes: 1 << 20, Size: func(_ string, e kv.Entry) int64 { return e.Size() }})
	if err != nil {
		b.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	s, err = store.New(store.Config{Database: db, Cache: entries, MaxValueBytes: maxValueBytes, Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	h := httptest.NewServer(api.New(api.Config{Store: s, Logger: quiet}))
	return s, h.Listener.Addr().String(), func() {
		s.EndWatches()
		h.Close()
		s.Close()
		entries.Close()
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	}
}

// streamOf opens a stream, calls opened once it is there and took with what arrives. It
// returns once the server has ended the stream or took has returned false.
func streamOf(b *testing.B, address, query string, opened func(), took func([]byte) bool) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Error(err)
		opened()
		return
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET /watch?%s HTTP/1.1\r\nHost: b\r\n\r\n", query); err != nil {
		b.Error(err)
	}
	buffer := make([]byte, 16<<10)
	for first := true; ; first = false {
		n, err := conn.Read(buffer)
		if first {
			opened()
		}
		if err != nil || !took(buffer[:n]) {
			return
		}
	}
}

// BenchmarkWriteBesideStreams measures a PUT over HTTP while clients read streams of
// everything.
func BenchmarkWriteBesideStreams(b *testing.B) {
	const writers = 16
	body := `{"value":"` + strings.Repeat("v", 98) + `"}`
	for _, streams := range []int{0, 10, 1_000, 3_000} {
		b.Run(strconv.Itoa(streams), func(b *testing.B) {
			_, address, stop := serveWatched(b, databasetest.URL(b))
			var reading, opened sync.WaitGroup
			var bytes atomic.Int64
			for range streams {
				opened.Add(1)
				reading.Go(func() {
					streamOf(b, address, "", opened.Done, func(t []byte) bool { bytes.Add(int64(len(t))); return true })
				})
			}
			opened.Wait()
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: writers}}
			var left atomic.Int64
			left.Store(int64(b.N))
			var writing sync.WaitGroup
			b.ResetTimer()
			for range writers {
				writing.Go(func() {
					for n := left.Add(-1); n >= 0; n = left.Add(-1) {
						r, _ := http.NewRequest(http.MethodPut, "http://"+address+"/put/k"+strconv.Itoa(int(n%100)), strings.NewReader(body))
						answer, err := client.Do(r)
						if err != nil || answer.StatusCode != http.StatusOK {
							b.Error(answer, err)
							return
						}
						_, _ = io.Copy(io.Discard, answer.Body)
						answer.Body.Close()
					}
				})
			}
			writing.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
			b.ReportMetric(float64(bytes.Load())/(1<<20)/b.Elapsed().Seconds(), "MB/s")
			client.CloseIdleConnections()
			stop()
			reading.Wait()
		})
	}
}

// BenchmarkStreamsComeBack measures how long streams that reconnect after a restart, all
// equally far behind, take until each has everything, and how long /readyz takes meanwhile.
func BenchmarkStreamsComeBack(b *testing.B) {
	const streams, behind = 4_000, 4_096
	url := databasetest.URL(b)
	s, _, stop := serveWatched(b, url)
	for written := 0; written < behind; {
		var changes []store.Change
		for ; written < behind && len(changes) < 1024; written++ {
			changes = append(changes, putOf("k"+strconv.Itoa(written%100), `"`+strings.Repeat("v", 98)+`"`))
		}
		if _, err := s.Batch(b.Context(), nil, changes); err != nil {
			b.Fatal(err)
		}
	}
	stop()
	for range b.N {
		_, address, stop := serveWatched(b, url)
		var reading sync.WaitGroup
		for range streams {
			seen, last := 0, ""
			reading.Go(func() {
				streamOf(b, address, "since=0", func() {}, func(t []byte) bool {
					text := last + string(t)
					seen += strings.Count(text, "\nevent: ")
					last = text[max(0, len(text)-len("\nevent:")):]
					return seen < behind
				})
			})
		}
		var done atomic.Bool
		var total, slowest time.Duration
		asked := 0
		var asking sync.WaitGroup
		asking.Go(func() {
			for ; !done.Load(); asked++ {
				began := time.Now()
				answer, err := http.Get("http://" + address + "/readyz")
				if err != nil || answer.StatusCode != http.StatusOK {
					b.Error(answer, err)
					return
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				total += time.Since(began)
				slowest = max(slowest, time.Since(began))
				time.Sleep(10 * time.Millisecond)
			}
		})
		reading.Wait()
		done.Store(true)
		asking.Wait()
		b.ReportMetric(float64(slowest.Microseconds())/1000, "ms/slowest-readyz")
		b.ReportMetric(float64(total.Microseconds())/1000/float64(max(1, asked)), "ms/readyz")
		b.StopTimer()
		stop()
		b.StartTimer()
	}
}
