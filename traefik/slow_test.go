package traefik_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// slowClients opens 2,000 connections that send headers and bodies byte by byte, through
// Traefik and to the gateway. Other clients must be served.
func slowClients(t *testing.T, table *faultTable) {
	s := newStack(t)
	put(t, "k-0", "0")
	for _, address := range []string{webAddress, s.gatewayAddress} {
		dribble(t, address, 2000)
	}
	begin := time.Now()
	load := startTraffic(t, "k")
	load.more(t, rounds(300, 3000))
	if c := table.survived(t, load, begin); c.refused+c.cut > 0 {
		t.Errorf("%d requests of others failed", c.refused+c.cut)
	}
	for _, p := range s.processes() {
		if bytes := p.residentBytes(t); bytes > 1<<30 {
			t.Errorf("%s holds %d MiB", p.name, bytes>>20)
		}
	}
}

// dribble opens connections that send one byte at a time until they are closed or the test ends:
// half of them in the headers, half in a body.
func dribble(t *testing.T, address string, connections int) {
	t.Helper()
	stop := make(chan struct{})
	var group sync.WaitGroup
	t.Cleanup(func() { close(stop); group.Wait() })
	for n := range connections {
		conn, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			t.Fatalf("connection %d: %v", n, err)
		}
		begin := fmt.Sprintf("GET /get/k-0 HTTP/1.1\r\nHost: %s\r\nX-Slow: ", address)
		if n%2 == 0 {
			begin = fmt.Sprintf("PUT /put/slow-%d HTTP/1.1\r\nHost: %s\r\nContent-Length: 100000\r\n\r\n{\"value\":\"", n, address)
		}
		if _, err := io.WriteString(conn, begin); err != nil {
			t.Fatalf("connection %d: %v", n, err)
		}
		group.Go(func() {
			defer conn.Close()
			ticker := time.NewTicker(time.Second)
			defer ticker.Stop()
			for {
				select {
				case <-stop:
					return
				case <-ticker.C:
				}
				if _, err := io.WriteString(conn, "x"); err != nil {
					return
				}
			}
		})
	}
}

// overload sends far more at once than the service can handle. Each request must get 200 or a
// problem that says when to try again, acknowledged writes must exist, memory must stay bounded,
// and afterwards everything must be as before.
func overload(t *testing.T, table *faultTable) {
	s := newStack(t, "KV_MAX_QUEUED_WRITES=32", "KV_MAX_REQUESTS=256")
	value := `"` + strings.Repeat("v", 20_000) + `"`
	stop := make(chan struct{})
	var crowd sync.WaitGroup
	var mu sync.Mutex
	seen := map[int]int{}
	load := startTraffic(t, "k")
	for n := range 256 {
		crowd.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				answer, err := tryRequest(webAddress, http.MethodPut, fmt.Sprintf("/put/crowd-%d", n), nil, `{"value":`+value+`}`)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				seen[answer.status]++
				mu.Unlock()
				if answer.status == http.StatusServiceUnavailable && answer.header.Get("Retry-After") == "" {
					t.Errorf("503 without Retry-After: %s", answer.body)
				}
				if answer.status != http.StatusOK && answer.status != http.StatusServiceUnavailable {
					t.Errorf("%d %s", answer.status, answer.body)
					return
				}
			}
		})
	}
	load.more(t, rounds(200, 500))
	close(stop)
	crowd.Wait()
	begin := time.Now()
	if seen[http.StatusOK] == 0 || seen[http.StatusServiceUnavailable] == 0 {
		t.Errorf("answers of %v: none was accepted, or none was refused", seen)
	}
	for _, p := range s.processes() {
		if bytes := p.residentBytes(t); bytes > 1<<30 {
			t.Errorf("%s holds %d MiB", p.name, bytes>>20)
		}
	}
	failed := load.counts().refused
	load.more(t, 200)
	if now := load.counts(); now.cut > 0 || now.refused > failed {
		t.Errorf("afterwards requests fail: %+v", now)
	}
	table.survived(t, load, begin)
	for n := range 256 {
		if answer := get(t, fmt.Sprintf("/get/crowd-%d", n)); answer.status != http.StatusOK && answer.status != http.StatusNotFound {
			t.Errorf("crowd-%d: %d", n, answer.status)
		}
	}
}
