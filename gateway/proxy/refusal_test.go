package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"kvstore/gateway/proxy"
)

// A refusal reaches a client that sends its whole body before it reads. It says that the
// connection ends.
func TestRefusalsReachAClientThatSendsFirst(t *testing.T) {
	const size = 10 << 20
	body := strings.Repeat("x", size)
	known := fmt.Sprintf("Host: h\r\nContent-Length: %d\r\n", size)
	limits := func(c *proxy.Config) { smallBodies(c); c.MaxRequestsPerClient = 1 }
	backend := newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/watch" {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		w.WriteHeader(http.StatusUnsupportedMediaType)
	}).URL
	g := start(t, limits, backend)
	roomy := start(t, func(c *proxy.Config) { c.MaxValueBytes = 2 * size }, backend)
	alone := start(t, func(c *proxy.Config) { c.MaxValueBytes = 2 * size }, closedAddress(t))
	busy, _ := g.dial(t)
	fmt.Fprint(busy, "GET /watch HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n")
	for _, test := range []struct {
		gateway *gateway
		head    string
		status  int
	}{
		{g, "PUT /put/k HTTP/1.1\r\n" + known, 413},
		{g, "PUT /put/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n", 413},
		{g, "PUT /readyz HTTP/1.1\r\n" + known, 404},
		{g, "PUT /healthz HTTP/1.1\r\n" + known, 405},
		{g, "GET /health HTTP/1.1\r\n" + known, 200},
		{g, "PUT /tls-required HTTP/1.1\r\n" + known, 403},
		{g, "PUT /put/k HTTP/1.1\r\nX-Forwarded-For: 192.0.2.9\r\n" + known, 429},
		{g, "PUT /put/k HTTP/1.1\r\nBad Header: x\r\n" + known, 400},
		{g, "PUT /put/k HTTP/1.1\r\nExpect: wonders\r\n" + known, 417},
		{g, "PUT /put/k HTTP/1.1\r\nX: " + strings.Repeat("x", 70<<10) + "\r\n" + known, 431},
		{alone, "PUT /put/k HTTP/1.1\r\n" + known, 503},
		{roomy, "PUT /put/k HTTP/1.1\r\n" + known, 415},
		{roomy, "PUT /put/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n", 415},
	} {
		name := fmt.Sprint(test.status)
		if strings.Contains(test.head, "chunked") {
			name += " chunked"
		}
		t.Run(name, func(t *testing.T) {
			if test.status == http.StatusTooManyRequests {
				eventually(t, "the client has a request under way", func() bool { return g.proxy.Stats().Streams == 1 })
			}
			conn, r := test.gateway.dial(t)
			sent := body
			if strings.Contains(test.head, "chunked") {
				sent = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", size, body)
			}
			if _, err := io.WriteString(conn, test.head+"\r\n"+sent); err != nil {
				t.Fatalf("the client is not heard to the end: %v", err)
			}
			response, _ := answer(t, r, "PUT")
			if response.StatusCode != test.status || !response.Close {
				t.Errorf("%s, close %t", response.Status, response.Close)
			}
			wantEnd(t, r)
		})
	}
}
