package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"kvstore/gateway/proxy"
)

// tally counts requests by their id.
type tally struct {
	mu  sync.Mutex // guards ids
	ids map[string]int
}

func (c *tally) add(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ids == nil {
		c.ids = map[string]int{}
	}
	c.ids[id]++
}

func (c *tally) of(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ids[id]
}

// The backend closes each connection after an answer, without announcing it. A write on a
// connection that is about to close is done once, or at most once if it is answered 503. A read
// is sent again.
func TestConnectionsThatCloseBehindAnAnswer(t *testing.T) {
	var seen tally
	g := start(t, neverAgain, rawBackend(t, func(conn net.Conn, r *bufio.Reader) {
		request, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, request.Body); err != nil {
			return
		}
		seen.add(request.Header.Get("X-Request-Id"))
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}))
	var clients sync.WaitGroup
	for client := range 4 {
		conn, r := g.dial(t)
		clients.Go(func() {
			for i := range 200 {
				method, body := "GET", ""
				if i%2 == 0 {
					method, body = "PUT", "abc"
				}
				id := fmt.Sprintf("%d-%d", client, i)
				fmt.Fprintf(conn, "%s /put/k HTTP/1.1\r\nHost: h\r\nX-Request-Id: %s\r\nContent-Length: %d\r\n\r\n%s", method, id, len(body), body)
				response, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Errorf("%s %s: %v", method, id, err)
					return
				}
				_, _ = io.Copy(io.Discard, response.Body)
				n := seen.of(id)
				switch {
				case response.StatusCode == http.StatusOK && n == 1:
				case response.StatusCode == http.StatusOK && n > 1 && method == "GET":
				case response.StatusCode == http.StatusServiceUnavailable && n <= 1 && method == "PUT":
				default:
					t.Errorf("%s: %s, the backend took it %d times", method, response.Status, n)
				}
			}
		})
	}
	clients.Wait()
}

// serve serves a gateway until stop is called.
func serve(t *testing.T, change func(*proxy.Config), backend string) (address string, stop func() error) {
	t.Helper()
	cfg, _ := defaults(t, backend)
	if change != nil {
		change(&cfg)
	}
	p, err := proxy.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, listener) }()
	return listener.Addr().String(), func() error {
		cancel()
		return receive(t, "the end of Serve", served)
	}
}

// Idle connections end at once. Others end after the current answer, which tells the client.
func TestDrain(t *testing.T) {
	arrived, finish := make(chan struct{}), make(chan struct{})
	backend := newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/get/slow" {
			close(arrived)
			<-finish
		}
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, "done")
	})
	address, stop := serve(t, nil, backend.URL)
	g := &gateway{address: address}
	silent, silentReader := g.dial(t)
	idle, idleReader := g.dial(t)
	fmt.Fprint(idle, "GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
	answer(t, idleReader, "GET")
	busy, busyReader := g.dial(t)
	fmt.Fprint(busy, "GET /get/slow HTTP/1.1\r\nHost: h\r\n\r\n")
	receive(t, "the slow request", arrived)
	half, halfReader := g.dial(t)
	fmt.Fprint(half, "PUT /put/k HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
	if response, _ := answer(t, halfReader, "PUT"); response.StatusCode != http.StatusContinue {
		t.Error(response.Status)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	wantEnd(t, idleReader)
	wantEnd(t, silentReader)
	silent.Close()
	fmt.Fprint(half, "x")
	close(finish)
	for _, r := range []*bufio.Reader{busyReader, halfReader} {
		response, body := answer(t, r, "GET")
		if body != "done" || !response.Close {
			t.Errorf("%q, close %t", body, response.Close)
		}
		wantEnd(t, r)
	}
	if err := receive(t, "the end", stopped); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("still listens")
	}
}

// A request that does not end is cut after the timeout, and Serve returns an error.
func TestDrainTimeout(t *testing.T) {
	gone := make(chan struct{}, 1)
	arrived := make(chan struct{}, 1)
	backend := newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		untilGone(gone)(w, r)
	})
	address, stop := serve(t, func(c *proxy.Config) { c.DrainTimeout = short }, backend.URL)
	g := &gateway{address: address}
	conn, r := g.dial(t)
	fmt.Fprint(conn, "GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
	receive(t, "the request", arrived)
	if err := stop(); err == nil || !strings.Contains(err.Error(), "still in flight") {
		t.Errorf("Serve: %v", err)
	}
	wantEnd(t, r)
	receive(t, "the end of the backend's request", gone)
}

// If the listener fails, Serve ends all connections and returns the error.
func TestListenerFails(t *testing.T) {
	cfg, _ := defaults(t, newBackend(t, "s", echo).URL)
	p, err := proxy.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	failure := errors.New("it broke")
	if err := p.Serve(t.Context(), failing{failure}); !errors.Is(err, failure) {
		t.Errorf("Serve: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Accept() (net.Conn, error) { return nil, f.err }
func (f failing) Close() error              { return nil }
func (f failing) Addr() net.Addr            { return &net.TCPAddr{} }

// If a client goes away in the middle of an answer, so does the request to the backend, whose
// connection is not used again.
func TestClientGoesAwayWhileReading(t *testing.T) {
	ended := make(chan error, 1)
	g := start(t, nil, newBackend(t, "s", func(w http.ResponseWriter, _ *http.Request) {
		part := make([]byte, 64<<10)
		for {
			if _, err := w.Write(part); err != nil {
				ended <- err
				return
			}
		}
	}).URL)
	for range 3 {
		conn, r := g.dial(t)
		fmt.Fprint(conn, "GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
		if _, err := io.CopyN(io.Discard, r, 100<<10); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		receive(t, "the end of the backend's answer", ended)
	}
	if n := g.log.count("WARN"); n > 0 {
		t.Errorf("%d warnings", n)
	}
}

// A client that reads slowly gets the whole answer.
func TestSlowReader(t *testing.T) {
	const size = 16 << 20
	g := start(t, shortTimeout, newBackend(t, "s", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(w, io.LimitReader(zeros{}, size))
	}).URL)
	conn, r := g.dial(t)
	fmt.Fprint(conn, "GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	total := int64(0)
	for i := 0; ; i++ {
		n, err := io.CopyN(io.Discard, response.Body, 1<<20)
		total += n
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			<-time.After(3 * short) // what is tested is the passing of time
		}
	}
	if total != size {
		t.Errorf("%d bytes", total)
	}
}
