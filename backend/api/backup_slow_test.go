package api_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"kvstore/backend/api"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
	"kvstore/backend/store"
)

// startLarge starts a server whose database is larger than what a connection buffers.
func startLarge(t *testing.T, cfg api.Config) *server {
	t.Helper()
	s := startWith(t, store.Config{Database: databasetest.Open(t, databasetest.FileURL(t))}, cfg)
	for i := range 24 {
		text := make([]byte, 1<<19)
		for j := range text {
			text[j] = "0123456789abcdef"[rand.IntN(16)]
		}
		if got := s.do(t, "PUT", "/put/k"+strconv.Itoa(i), `{"value":"`+string(text)+`"}`); got.status != 200 {
			t.Fatal(got.body)
		}
	}
	return s
}

// askSlowly asks for a backup, on a connection with small buffers, and returns once the
// status line is there.
func (s *server) askSlowly(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "GET /db/backup HTTP/1.1\r\nHost: drill\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(conn, head); err != nil || string(head) != "HTTP/1.1 200" {
		t.Fatalf("%q, %v", head, err)
	}
	return conn
}

// expectPlace waits until another backup can be made. It makes one without a client, which
// could itself be too slow.
func (s *server) expectPlace(t *testing.T) {
	t.Helper()
	until(t, "there is a place for the next backup", func() bool {
		made, err := s.db.Copy(t.Context())
		if err != nil && !errors.Is(err, kv.ErrCopying) {
			t.Fatal(err)
		}
		return err == nil && made.Close() == nil
	})
}

// openCopies returns how many copies take space on the disk. They have no name.
func openCopies(t *testing.T) (n int) {
	t.Helper()
	files, _ := filepath.Glob("/proc/self/fd/*") // none on systems without /proc
	for _, name := range files {
		if file, err := os.Readlink(name); err == nil && strings.Contains(file, ".db.copy") {
			n++
		}
	}
	return n
}

// TestBackupSlowClient tests that a client that reads nothing, reads a few bytes now and then,
// or has gone does not keep others from a backup.
func TestBackupSlowClient(t *testing.T) {
	const never = time.Hour
	for name, c := range map[string]struct {
		stall, window time.Duration
		drip, hangUp  bool
	}{
		"stalled":      {stall: 50 * time.Millisecond, window: never},
		"drip":         {stall: never, window: 100 * time.Millisecond, drip: true},
		"disconnected": {stall: never, window: never, hangUp: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := startLarge(t, api.Config{StallTimeout: c.stall, BackupWindow: c.window, BackupBytes: 1 << 40})
			conn := s.askSlowly(t)
			dripped := make(chan struct{})
			switch {
			case c.hangUp:
				conn.Close()
				close(dripped)
			case c.drip:
				go func() {
					defer close(dripped)
					for one := make([]byte, 1); ; time.Sleep(time.Millisecond) { // slow but steady
						if _, err := conn.Read(one); err != nil {
							return
						}
					}
				}()
			default:
				close(dripped)
			}
			s.expectPlace(t)
			if n := openCopies(t); n != 0 {
				t.Errorf("%d copies are open still", n)
			}
			conn.Close()
			<-dripped
		})
	}
}

// TestBackupSlowClientHoldsItsPlace tests that a second client is told to come back while the
// first keeps the pace.
func TestBackupSlowClientHoldsItsPlace(t *testing.T) {
	s := startLarge(t, api.Config{})
	conn := s.askSlowly(t)
	got := s.do(t, "GET", "/db/backup", "")
	if got.status != 503 || got.header.Get("Retry-After") == "" || got.problem(t)["code"] != "backup_running" || openCopies(t) != 1 {
		t.Errorf("%d %v %.300s, %d copies", got.status, got.header, got.body, openCopies(t))
	}
	conn.Close()
	s.expectPlace(t)
}
