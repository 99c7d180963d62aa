package proxy_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"kvstore/gateway/proxy"
)

// heap returns the size of the live heap in bytes.
func heap() int64 {
	var stats runtime.MemStats
	for range 3 { // pools give up what they have in the second
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// wantGrowth waits until the heap has grown by at most most bytes for each of n.
func wantGrowth(t *testing.T, before int64, n int, most int64) {
	t.Helper()
	each := int64(0)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-time.After(short) {
		if each = (heap() - before) / int64(n); each <= most {
			t.Logf("%d bytes for each of %d", each, n)
			return
		}
	}
	t.Errorf("%d bytes for each of %d, want at most %d", each, n, most)
}

// A connection that had a large head frees the memory when it is idle, and so does a stream.
// Before, it kept 169 KB after a head of 60 KB.
func TestIdleConnectionsAreSmall(t *testing.T) {
	g := start(t, neverAgain, rawBackend(t, func(conn net.Conn, r *bufio.Reader) {
		for {
			request, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if request.URL.Path != "/watch" {
				fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		}
	}))
	const n = 100
	for _, target := range []string{"/get/k", "/watch"} {
		t.Run(target, func(t *testing.T) {
			large := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: h\r\n%s\r\n", target, strings.Repeat("X: "+strings.Repeat("x", 115)+"\r\n", 500))
			small := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: h\r\n\r\n", target)
			var each [2]int64
			for i, raw := range []string{small, large} {
				conns := make([]net.Conn, n)
				before := heap()
				for i := range conns {
					conn, err := net.Dial("tcp", g.addr())
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					conns[i] = conn
					fmt.Fprint(conn, raw)
					status := make([]byte, len("HTTP/1.1 200"))
					if _, err := conn.Read(status); err != nil || string(status) != "HTTP/1.1 200" {
						t.Fatalf("%q %v", status, err)
					}
				}
				if i == 0 {
					each[0] = (heap() - before) / n
					continue
				}
				wantGrowth(t, before, n, each[0]+16<<10)
			}
		})
	}
}

// Clients that do not read their answers hold little memory each.
func TestStalledClientsHoldLittle(t *testing.T) {
	cut := make(chan error, 128)
	g := start(t, func(c *proxy.Config) { c.WriteTimeout = time.Hour }, newBackend(t, "s", largeAnswers(cut)).URL)
	before := heap()
	const n = 64
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i] = g.stall(t, "GET", []string{"/get/large", "/keys"}[i%2], "192.0.2.1")
	}
	eventually(t, "all are under way", func() bool {
		stats := g.proxy.Stats()
		return stats.Clients == n && stats.Backends[0].Open-stats.Backends[0].Idle >= n
	})
	wantGrowth(t, before, n, 256<<10) // the backend of the test has its own among it
	for _, conn := range conns {
		reset(t, conn)
	}
}
