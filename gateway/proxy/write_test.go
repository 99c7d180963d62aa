package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kvstore/gateway/proxy"
)

// A backend that reads a request on a kept connection and then closes it may have executed the
// request.
func TestWriteIsNeverSentTwice(t *testing.T) {
	var taken atomic.Int32
	backend := rawBackend(t, func(conn net.Conn, r *bufio.Reader) {
		for {
			request, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, request.Body)
			if strings.HasPrefix(request.URL.Path, "/put/") {
				taken.Add(1)
				return
			}
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	g := start(t, nil, backend)
	for _, headers := range []string{"", "Idempotency-Key: a\r\n", "x-idempotency-key: a\r\n", "Idempotency-Key:\r\n"} {
		for _, body := range []string{
			"\r\n", "Content-Length: 0\r\n\r\n", "Content-Length: 3\r\n\r\nabc",
			"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		} {
			for _, method := range []string{"PUT", "POST", "PATCH", "DELETE", "MERGE"} {
				for range 3 { // connections that are kept open, so that a second attempt could use another
					get(t, g.URL+"/get/k")
				}
				taken.Store(0)
				response, text := g.send(t, method+" /put/k HTTP/1.1\r\nHost: h\r\n"+headers+body)
				wantProblem(t, response, text, http.StatusServiceUnavailable, "backend_unavailable", "Backend service is unavailable")
				if n := taken.Load(); n != 1 {
					t.Errorf("%s %q %q was sent %d times", method, headers, body, n)
				}
			}
		}
	}
}

// Once something was sent, the request does not go to another backend.
func TestWriteStaysWithItsBackend(t *testing.T) {
	var taken atomic.Int32
	handle := func(conn net.Conn, r *bufio.Reader) {
		for {
			request, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if request.URL.Path != "/readyz" {
				taken.Add(1)
				return
			}
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n"+`{"status":"ok","store":"s"}`)
		}
	}
	g := start(t, nil, rawBackend(t, handle), rawBackend(t, handle))
	for i := range int32(4) {
		response, text := do(t, http.MethodPut, g.URL+"/put/k", nil, strings.NewReader("1"))
		wantProblem(t, response, text, http.StatusServiceUnavailable, "backend_unavailable", "Backend service is unavailable")
		if n := taken.Load(); n != i+1 {
			t.Fatalf("request %d: sent %d times in all", i+1, n)
		}
	}
}

// A request of which nothing was sent goes to the backend that can be reached.
func TestWriteGoesWhereItCanBeSent(t *testing.T) {
	got := make(chan string, 1)
	live := newBackend(t, "s", func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		got <- fmt.Sprint(r.Method, " ", string(body), " ", r.ContentLength, " ", err)
	})
	dying := newBackend(t, "s", func(http.ResponseWriter, *http.Request) {})
	g := start(t, func(c *proxy.Config) { c.ProbeInterval = time.Hour }, dying.URL, live.URL)
	dying.Close()
	for range 4 {
		response, text := do(t, http.MethodPost, g.URL+"/put/k", nil, strings.NewReader("body"))
		if response.StatusCode != http.StatusOK {
			t.Fatal(response.Status, text)
		}
		if body := receive(t, "the write", got); body != "POST body 4 <nil>" {
			t.Errorf("got %s", body)
		}
	}
	if n := g.log.count("backend is unhealthy", dying.URL); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

func TestUnreachableBackend(t *testing.T) {
	g := start(t, nil, closedAddress(t))
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		response, body := do(t, method, g.URL+"/put/k", nil, nil)
		wantProblem(t, response, body, http.StatusServiceUnavailable, "backend_unavailable", "Backend service is unavailable")
	}
	if n := g.log.count("backend is unhealthy"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

func TestBackendBreaksBeforeItsAnswer(t *testing.T) {
	for name, said := range map[string]string{
		"says nothing": "", "half a status line": "HTTP/1.1 2", "half a header": "HTTP/1.1 200 OK\r\nConten", "no HTTP": "220 ready\r\n\r\n",
		"switches":    "HTTP/1.1 101 Switching Protocols\r\n\r\n",
		"switches it": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, nil, rawBackend(t, func(conn net.Conn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err == nil {
					fmt.Fprint(conn, said)
				}
			}))
			response, body := get(t, g.URL+"/get/k")
			wantProblem(t, response, body, http.StatusServiceUnavailable, "backend_unavailable", "Backend service is unavailable")
		})
	}
}

// An answer that looks complete would be taken for the value.
func TestBackendDiesInTheMiddleOfAnAnswer(t *testing.T) {
	for name, said := range map[string]string{
		"of a known length":    "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
		"of an unknown length": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"between chunks":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n5",
		"in an event stream":   "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, nil, rawBackend(t, func(conn net.Conn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err == nil {
					fmt.Fprint(conn, said)
				}
			}))
			conn, r := g.dial(t)
			fmt.Fprint(conn, "GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
			response, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(response.Body); err == nil {
				t.Errorf("looks complete: %q", body)
			}
			response.Body.Close()
			if _, err := r.ReadByte(); err == nil {
				t.Error("the connection is still open")
			}
		})
	}
}
