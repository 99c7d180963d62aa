package main_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// dial opens a connection with a deadline.
func (p *program) dial(t *testing.T) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn), bufio.NewReader(conn)
}

func (p *program) end(t *testing.T) {
	t.Helper()
	p.stop()
	if err := <-p.result; err != nil {
		t.Error(err)
	}
}

// sayAll sends raw and closes the sending side, as nc -N does.
func sayAll(t *testing.T, conn *net.TCPConn, raw string) {
	t.Helper()
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

// A complete request is answered even if its client has closed its sending side. Once, 4
// of 40 such writes were made but answered with 499.
func TestHalfClosedClients(t *testing.T) {
	p := boot(t, map[string]string{"KV_DATABASE_URL": "sqlite:" + t.TempDir() + "/kv.db", "KV_MAX_WATCHERS": "1"})
	defer p.end(t)
	for i := range 40 {
		conn, r := p.dial(t)
		body := `{"value":1}`
		sayAll(t, conn, fmt.Sprintf("PUT /put/k HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(response.Body); err != nil || !strings.Contains(string(text), fmt.Sprintf(`"version":%d,`, i+1)) {
			t.Errorf("%s %s, %v", response.Status, text, err)
		}
	}

	conn, r := p.dial(t)
	sayAll(t, conn, "GET /watch HTTP/1.1\r\nHost: h\r\n\r\n")
	wait := func(text string) {
		t.Helper()
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("no %q: %v", text, err)
			}
			if strings.Contains(line, text) {
				return
			}
		}
	}
	wait("heartbeat") // long before the usual one
	p.request(t, "PUT", "/put/seen", `{"value":2}`)
	wait(`"key":"seen"`)
	conn.Close() // what it has closed before; but now it does not read either
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(50 * time.Millisecond) {
		response, err := http.Get(p.url + "/watch?for=1ms")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a watcher that is gone is still counted")
		}
	}
}

// A refusal reaches a client that sends its whole body before it reads.
func TestRefusalsReachAClientThatSendsFirst(t *testing.T) {
	p := boot(t, map[string]string{"KV_DATABASE_URL": "sqlite:" + t.TempDir() + "/kv.db"})
	defer p.end(t)
	const size = 10 << 20
	for head, status := range map[string]int{
		"PUT /put/k HTTP/1.1\r\n":                             413,
		"POST /batch HTTP/1.1\r\n":                            413,
		"PATCH /patch/k HTTP/1.1\r\nContent-Type: text/x\r\n": 415,
		"PUT /nowhere HTTP/1.1\r\n":                           404,
		"PUT /get/k HTTP/1.1\r\n":                             405,
		"PUT /put/k HTTP/1.1\r\nOrigin: http://elsewhere\r\nSec-Fetch-Site: cross-site\r\n": 403,
	} {
		conn, r := p.dial(t)
		if _, err := fmt.Fprintf(conn, "%sHost: h\r\nContent-Length: %d\r\n\r\n%s", head, size, strings.Repeat("x", size)); err != nil {
			t.Errorf("%q: the server stopped reading: %v", head, err)
			continue
		}
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Errorf("%q: %v", head, err)
			continue
		}
		if response.StatusCode != status || !response.Close {
			t.Errorf("%q: %s, close %t, want %d", head, response.Status, response.Close, status)
		}
	}
}

// The memory for answers that clients do not read is bounded. Once, 400 such clients held
// 2.7 GB.
func TestUnreadAnswersAreBounded(t *testing.T) {
	const bound = 16 << 20
	p := boot(t, map[string]string{
		"KV_DATABASE_URL": "sqlite:" + t.TempDir() + "/kv.db", "KV_MAX_QUEUED_BYTES": fmt.Sprint(bound), "KV_CACHE_MAX_BYTES": "1MiB",
	})
	defer p.end(t)
	value := `{"value":"` + strings.Repeat("x", 1000<<10) + `"}`
	for range 5 {
		if status, text := p.request(t, "PUT", "/put/k", value); status != http.StatusOK {
			t.Fatal(status, text)
		}
	}
	heap := func() int64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	before := heap()
	const n = 60
	var conns [n]*net.TCPConn
	for i := range conns {
		conns[i], _ = p.dial(t)
		if err := conns[i].SetReadBuffer(16 << 10); err != nil {
			t.Fatal(err)
		}
		target := "/history/k?values=true"
		if i%2 == 0 {
			target = "/get/k?raw=true"
		}
		fmt.Fprintf(conns[i], "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", target)
	}
	status, text := 0, ""
	for deadline := time.Now().Add(20 * time.Second); status != http.StatusServiceUnavailable; {
		if status, text = p.request(t, "GET", "/history/k?values=true", ""); time.Now().After(deadline) {
			t.Fatalf("%d: no answer is refused", status)
		}
	}
	if !strings.Contains(text, `"code":"overloaded"`) || !strings.Contains(text, "KV_MAX_QUEUED_BYTES") {
		t.Errorf("%d %s", status, text)
	}
	if status, text := p.request(t, "GET", "/get/none", ""); status != http.StatusNotFound {
		t.Errorf("a small answer: %d %s", status, text)
	}
	most := int64(3 * bound)
	grown := heap() - before
	for deadline := time.Now().Add(20 * time.Second); grown > most && time.Now().Before(deadline); grown = heap() - before {
		<-time.After(100 * time.Millisecond)
	}
	t.Logf("%d clients hold %d KiB", n, grown>>10)
	if grown > most {
		t.Errorf("%d clients hold %d bytes, want at most %d", n, grown, most)
	}
	for _, conn := range conns {
		conn.Close() // with what they have not read: a reset
	}
	for deadline := time.Now().Add(20 * time.Second); status != http.StatusOK; {
		if status, text = p.request(t, "GET", "/history/k?values=true", ""); time.Now().After(deadline) {
			t.Fatalf("%d %s: the memory was not released", status, text)
		}
	}
}
