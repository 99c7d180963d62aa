package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"kvstore/gateway/proxy"
)

// read returns the requests that net/http finds in raw.
func read(raw []byte) (requests []string) {
	for r := bufio.NewReader(bytes.NewReader(raw)); ; {
		request, err := http.ReadRequest(r)
		if err != nil {
			return requests
		}
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return requests
		}
		requests = append(requests, fmt.Sprintf("%s %s %q", request.Method, request.RequestURI, body))
	}
}

// own reports whether the gateway answers a request by itself.
func own(request string) bool {
	for _, path := range []string{" /healthz", " /health", " /readyz", " /metrics"} {
		if _, rest, found := strings.Cut(request, path); found && (rest[0] == ' ' || rest[0] == '?') {
			return true
		}
	}
	return strings.Contains(request, "%") || strings.HasPrefix(request, "CONNECT ")
}

// FuzzConnection checks that the backend gets exactly the requests that net/http finds in
// what a client sends, in their order, until one is refused.
func FuzzConnection(f *testing.F) {
	for _, seed := range []string{
		"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
		"PUT /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcDELETE /2 HTTP/1.1\r\nHost: h\r\n\r\n",
		"PUT /1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
		"PUT /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
		"PUT /1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;\nabc\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
		"PUT /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
		"PUT /1 HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nxGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
		"PUT /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 28\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
		"\r\nGET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nHEAD /2 HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /1 HTTP/1.1\nHost: h\n\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if bytes.Contains(raw, []byte("://")) {
			return // arrives in another form
		}
		var mu sync.Mutex // guards got
		var got []string
		backend := newBackend(t, "s", func(_ http.ResponseWriter, r *http.Request) {
			if body, err := io.ReadAll(r.Body); err == nil {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, fmt.Sprintf("%s %s %q", r.Method, r.RequestURI, body))
			}
		})
		g := start(t, func(c *proxy.Config) { c.HeaderTimeout, c.BodyTimeout = short, short; neverAgain(c) }, backend.URL)
		conn, r := g.dial(t)
		go func() {
			_, _ = conn.Write(raw)
			_ = conn.(*net.TCPConn).CloseWrite()
		}()
		_, _ = io.Copy(io.Discard, r)
		conn.Close()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		backend.Close()
		want := read(bytes.TrimLeft(raw, "\r\n"))
		for _, request := range got {
			for len(want) > 0 && want[0] != request && own(want[0]) {
				want = want[1:]
			}
			if len(want) == 0 || want[0] != request {
				t.Fatalf("the backend got %s, net/http finds %q", got, read(raw))
			}
			want = want[1:]
		}
		if strings.Contains(g.log.String(), "panic") {
			t.Error("a panic")
		}
	})
}
