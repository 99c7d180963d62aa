package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"kvstore/gateway/proxy"
)

const short = 100 * time.Millisecond

func shortTimeout(c *proxy.Config) { c.BackendTimeout = short }

// untilGone returns a handler that waits until the request is canceled, and reports that.
func untilGone(gone chan<- struct{}) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		gone <- struct{}{}
	}
}

func TestBackendTimeout(t *testing.T) {
	gone := make(chan struct{}, 1)
	g := start(t, shortTimeout, newBackend(t, "s", untilGone(gone)).URL)
	for _, method := range []string{"GET", "PUT"} {
		response, body := do(t, method, g.URL+"/put/k", nil, strings.NewReader("x"))
		wantProblem(t, response, body, http.StatusGatewayTimeout, "backend_timeout", "Backend service timed out")
		receive(t, "the end of the backend's request", gone)
	}
}

// A backend that does not even read times out.
func TestBackendTimeoutWhileSending(t *testing.T) {
	stop := make(chan struct{})
	backend := rawBackend(t, func(net.Conn, *bufio.Reader) { <-stop })
	t.Cleanup(func() { close(stop) })
	g := start(t, func(c *proxy.Config) { shortTimeout(c); c.MaxValueBytes = 64 << 20 }, backend)
	response, body := do(t, "PUT", g.URL+"/put/k", nil, io.LimitReader(zeros{}, 64<<20))
	wantProblem(t, response, body, http.StatusGatewayTimeout, "backend_timeout", "Backend service timed out")
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// The time that a client takes to send its body does not count for the backend.
func TestSlowUploadIsNotTheBackendsTime(t *testing.T) {
	g := start(t, shortTimeout, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	}).URL)
	conn, r := g.dial(t)
	fmt.Fprint(conn, "PUT /put/k HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n")
	for range 5 {
		<-time.After(short * 2 / 3) // what is tested is the passing of time
		fmt.Fprint(conn, "x")
	}
	if response, body := answer(t, r, "PUT"); response.StatusCode != http.StatusOK || body != "5 <nil>" {
		t.Errorf("%s %q", response.Status, body)
	}
}

// The timeout is that of each part of an answer. A stream has none.
func TestAnswerMayTakeLongerThanTheTimeout(t *testing.T) {
	g := start(t, func(c *proxy.Config) { c.BackendTimeout = 5 * short }, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		for i := range 8 {
			if r.URL.Path == "/get/k" {
				fmt.Fprint(w, "done"[i/2:(i+1)/2])
				_ = http.NewResponseController(w).Flush()
			}
			select {
			case <-time.After(short): // what is tested is the passing of time
			case <-r.Context().Done():
			}
		}
		if r.URL.Path != "/get/k" {
			fmt.Fprint(w, "done")
		}
	}).URL)
	for _, target := range []string{"/get/k", "/watch", "/watch?prefix=a"} {
		if response, body := get(t, g.URL+target); response.StatusCode != http.StatusOK || body != "done" {
			t.Errorf("%s: %s %q", target, response.Status, body)
		}
	}
}

func TestClientGoesAway(t *testing.T) {
	gone := make(chan struct{}, 1)
	arrived := make(chan struct{}, 1)
	backend := newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/get/stream" {
			fmt.Fprint(w, "begin")
			_ = http.NewResponseController(w).Flush()
		}
		arrived <- struct{}{}
		untilGone(gone)(w, r)
	})
	g := start(t, nil, backend.URL)
	for name, raw := range map[string]string{
		"while waiting": "GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n",
		"after writing": "PUT /put/k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
		"in a stream":   "GET /get/stream HTTP/1.1\r\nHost: h\r\n\r\n",
		"while sending": "PUT /put/k HTTP/1.1\r\nHost: h\r\nContent-Length: 300\r\n\r\nabc",
		"in a chunk":    "PUT /put/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
	} {
		t.Run(name, func(t *testing.T) {
			conn, _ := g.dial(t)
			fmt.Fprint(conn, raw)
			receive(t, "the request", arrived)
			reset(t, conn)
			receive(t, "the end of the backend's request", gone)
		})
	}
	g.Close() // waits for the handlers
	if log := g.log.String(); strings.Contains(log, "WARN") || strings.Contains(log, "ERROR") {
		t.Error("noise in the log")
	}
}

// A server that stops must not wait for streams, which have no end.
func TestEndStreams(t *testing.T) {
	gone := make(chan struct{}, 1)
	g := start(t, nil, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/watch" {
			return
		}
		_ = http.NewResponseController(w).Flush()
		untilGone(gone)(w, r)
	}).URL)
	client := &http.Client{Timeout: patience}
	response, err := client.Get(g.URL + "/watch")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	g.proxy.EndStreams()
	if _, err := io.ReadAll(response.Body); err == nil {
		t.Error("the stream looks complete")
	}
	receive(t, "the end of the backend's stream", gone)
	if response, _ := get(t, g.URL+"/get/k"); response.StatusCode != http.StatusOK {
		t.Errorf("other requests: %s", response.Status)
	}
	late, body := get(t, g.URL+"/watch")
	wantProblem(t, late, body, http.StatusServiceUnavailable, "backend_unavailable", "")
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}
