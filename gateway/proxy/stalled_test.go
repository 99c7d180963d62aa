package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"kvstore/gateway/proxy"
)

const large = 32 << 20 // more than the systems of both ends keep

// largeAnswers answers with as many bytes as the last part of the path says, and reports when a
// write fails.
func largeAnswers(cut chan<- error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		size := large
		switch r.URL.Path {
		case "/get/small":
			size = 100
		case "/keys": // of a length that is not told
			_ = http.NewResponseController(w).Flush()
		}
		if r.URL.Path != "/keys" {
			w.Header().Set("Content-Length", strconv.Itoa(size))
		}
		if _, err := io.CopyN(w, zeros{}, int64(size)); err != nil {
			cut <- err
		}
	}
}

// stall sends a request and never reads.
func (g *gateway) stall(t *testing.T, method, target, client string) net.Conn {
	t.Helper()
	conn, _ := g.dial(t)
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: %s\r\n\r\n", method, target, client)
	return conn
}

// A client that does not read is cut, and so is its request to the backend.
func TestClientThatDoesNotRead(t *testing.T) {
	cut := make(chan error, 8)
	g := start(t, func(c *proxy.Config) { c.WriteTimeout = short }, newBackend(t, "s", largeAnswers(cut)).URL)
	for _, target := range []string{"/get/large", "/keys", "/watch"} {
		for range 3 {
			g.stall(t, "GET", target, "192.0.2.1")
		}
		for range 3 {
			receive(t, "the end of the backend's request", cut)
		}
	}
	eventually(t, "nothing is left", func() bool {
		stats := g.proxy.Stats()
		return stats.Clients == 0 && stats.Backends[0].Open == stats.Backends[0].Idle
	})
	if n := g.log.count("does not take its answer", "KV_WRITE_TIMEOUT"); n != 9 {
		t.Errorf("%d lines", n)
	}
}

// A stream may pause for any time, even on a connection that had another answer before.
func TestWriteTimeoutIsNotForStreams(t *testing.T) {
	finish := make(chan struct{})
	g := start(t, func(c *proxy.Config) { c.WriteTimeout = short }, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/watch" {
			_ = http.NewResponseController(w).Flush()
			<-finish
		}
		fmt.Fprint(w, "done")
	}).URL)
	conn, r := g.dial(t)
	for _, target := range []string{"/get/k", "/watch", "/get/k"} {
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", target)
		if target == "/watch" {
			<-time.After(3 * short) // what is tested is the passing of time
			close(finish)
		}
		if response, body := answer(t, r, "GET"); response.StatusCode != http.StatusOK || body != "done" {
			t.Errorf("%s: %s %q", target, response.Status, body)
		}
	}
}
