package api_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"kvstore/backend/api"
	"kvstore/backend/store"
)

// TestWatchSlow tests that a client that reads too slowly gets what was on its way, and then
// where to resume.
func TestWatchSlow(t *testing.T) {
	s := startWith(t, store.Config{}, api.Config{Heartbeat: time.Minute, StallTimeout: time.Minute})
	f := s.watch(t, "?prefix=k")
	large := `"` + strings.Repeat("x", 1<<20-2) + `"`
	const writes = 30 // more than the connection and the log hold
	for range writes {
		s.write(t, putOf("k", large))
	}
	last := "0"
	for {
		id, event, data := fields(t, f.block(t))
		if event == "cut" {
			if id != last || data != fmt.Sprintf(`{"resume":%s}`, last) {
				t.Errorf("after %s: cut at %s, %s", last, id, data)
			}
			break
		}
		last = id
	}
	if _, err := f.lines.ReadByte(); err != io.EOF {
		t.Errorf("behind the cut: %v", err)
	}
	again := s.watch(t, "?prefix=k", "Last-Event-ID", last)
	for next, id := last, ""; id != fmt.Sprint(writes); next = id {
		id, _, _ = fields(t, again.block(t))
		if before := fmt.Sprint(atoi(t, id) - 1); before != next {
			t.Fatalf("%s comes behind %s", id, next)
		}
	}
}

// TestWatchStalled tests that a client that reads nothing is disconnected, at once when the
// server stops.
func TestWatchStalled(t *testing.T) {
	for name, stall := range map[string]time.Duration{"timeout": 50 * time.Millisecond, "stop": time.Hour} {
		t.Run(name, func(t *testing.T) {
			s := startWith(t, store.Config{MaxWatchers: 1}, api.Config{Heartbeat: time.Minute, StallTimeout: stall})
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "GET /watch HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(conn, make([]byte, 20)); err != nil {
				t.Fatal(err)
			}
			var batch []store.Change
			for range 200 { // more than the connection holds, less than the log
				batch = append(batch, putOf("k", `"`+strings.Repeat("x", 60_000)+`"`))
			}
			if _, err := s.store.Batch(t.Context(), nil, batch); err != nil {
				t.Fatal(err)
			}
			if name == "timeout" {
				s.waitForRoom(t)
				return
			}
			s.store.EndWatches()
			s.Config.SetKeepAlivesEnabled(false)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if err := s.Config.Shutdown(ctx); err != nil {
				t.Errorf("the drain: %v", err)
			}
		})
	}
}
