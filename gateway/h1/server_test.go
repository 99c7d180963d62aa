package h1_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"kvstore/gateway/h1"
)

const (
	patience = 10 * time.Second
	short    = 100 * time.Millisecond
)

// An ending is what Done was told.
type ending struct {
	line   string
	status int
	end    h1.End
	err    error
}

// A forwarder is a handler that forwards everything, and answers what cannot be forwarded.
type forwarder struct {
	pool *h1.Pool
	done chan ending
}

func (f *forwarder) Decide(x *h1.Exchange) h1.Decision {
	switch {
	case x.Malformed != nil:
		return h1.Decision{Answer: &h1.Answer{Status: x.Malformed.Status, Reason: "Refused"}}
	case x.Err != nil:
		return h1.Decision{Answer: &h1.Answer{Status: http.StatusBadGateway, Reason: "Failed", Body: []byte(x.Err.Error())}}
	case x.Surplus:
		return h1.Decision{Answer: &h1.Answer{Status: http.StatusServiceUnavailable, Reason: "Full"}}
	}
	x.ToBackend = append(x.ToBackend, "X-To-Backend: 1\r\n"...)
	x.ToClient = append(x.ToClient, "X-To-Client: 1\r\n"...)
	d := h1.Decision{MaxBody: 1000, Order: func() h1.Order {
		return h1.Order{First: f.pool, All: func(context.Context) iter.Seq[*h1.Pool] {
			return func(yield func(*h1.Pool) bool) { yield(f.pool) }
		}}
	}}
	if string(x.Path()) == "/stream" {
		d.Stream = func() error { return nil }
	}
	return d
}

func (f *forwarder) Done(x *h1.Exchange) {
	e := ending{status: x.Status, end: x.End, err: x.Err}
	if x.End != h1.TooMany && x.Malformed == nil {
		e.line = x.Line()
	}
	f.done <- e
}

// serve starts a server that forwards to backend, and changes its limits with change.
func serve(t *testing.T, backend http.HandlerFunc, change func(*h1.Limits)) (s *h1.Server, address string, done chan ending) {
	t.Helper()
	target := httptest.NewServer(backend)
	t.Cleanup(target.Close)
	f := &forwarder{pool: &h1.Pool{Address: target.Listener.Addr().String(), Unreachable: func(error) {}}, done: make(chan ending, 1000)}
	limits := h1.Limits{
		MaxConnections: 100, MaxHeaderBytes: 8 << 10, HeaderTimeout: patience, BodyTimeout: patience,
		WriteTimeout: patience, IdleTimeout: patience, BackendTimeout: patience, DrainTimeout: patience,
	}
	if change != nil {
		change(&limits)
	}
	base, cancelBase := context.WithCancel(context.Background())
	s = h1.New(base, h1.Config{
		Limits: limits, NewHandler: func(net.Addr) h1.Handler { return f }, Replaced: []string{"x-to-client"},
		Leave: func() {}, Patrol: func(time.Time) {}, Logger: slog.New(slog.DiscardHandler),
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener) }()
	t.Cleanup(func() {
		target.CloseClientConnections() // what a failed test left
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		f.pool.Close()
		cancelBase()
	})
	return s, listener.Addr().String(), f.done
}

func dial(t *testing.T, address string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// The headers that the handler adds reach their side, and replace the backend's.
func TestHeadersOfTheHandler(t *testing.T) {
	_, address, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-To-Client", "forged")
		fmt.Fprint(w, r.Header["X-To-Backend"], r.Header["X-Kept"])
	}, nil)
	conn, r := dial(t, address)
	fmt.Fprint(conn, "GET /a HTTP/1.1\r\nHost: h\r\nX-Kept: 2\r\n\r\n")
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if got := response.Header["X-To-Client"]; err != nil || string(body) != "[1] [2]" || len(got) != 1 || got[0] != "1" {
		t.Errorf("%q %v, header %q", body, err, got)
	}
}

// Done is told why the connection takes no further request.
func TestEnds(t *testing.T) {
	backend := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/break":
			w.Header().Set("Content-Length", "10")
			fmt.Fprint(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/stream":
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case "/endless":
			for part := make([]byte, 64<<10); ; {
				if _, err := w.Write(part); err != nil {
					return
				}
			}
		case "/wait":
			<-r.Context().Done()
		}
	}
	const get = " HTTP/1.1\r\nHost: h\r\n\r\n"
	for name, c := range map[string]struct {
		raw  string
		then func(s *h1.Server, conn net.Conn, r *bufio.Reader)
		want ending
	}{
		"open":      {"GET /a" + get, nil, ending{"GET /a", 200, h1.Open, nil}},
		"closing":   {"GET /a HTTP/1.0\r\n\r\n", nil, ending{"GET /a", 200, h1.Closing, nil}},
		"malformed": {"nonsense\r\n\r\n", nil, ending{"", 400, h1.Unread, nil}},
		"too large": {"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n", nil, ending{"PUT /a", 502, h1.Unread, h1.ErrTooLarge}},
		"read on": {
			"PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", 10_000, strings.Repeat("x", 10_000)),
			nil, ending{"PUT /a", 502, h1.Closing, h1.ErrTooLarge},
		},
		"client gone": {"GET /wait" + get, func(_ *h1.Server, conn net.Conn, _ *bufio.Reader) {
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}, ending{"GET /wait", 0, h1.ClientGone, nil}},
		"client stalled": {"GET /endless" + get, nil, ending{"GET /endless", 200, h1.ClientStalled, nil}},
		"backend broke":  {"GET /break" + get, nil, ending{"GET /break", 200, h1.BackendBroke, io.EOF}},
		"interrupted": {"GET /stream" + get, func(s *h1.Server, _ net.Conn, r *bufio.Reader) {
			if _, err := http.ReadResponse(r, nil); err != nil {
				t.Error(err)
			}
			s.EndStreams()
		}, ending{"GET /stream", 200, h1.Interrupted, h1.ErrStreamsEnded}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, address, done := serve(t, backend, func(l *h1.Limits) { l.WriteTimeout = short })
			conn, r := dial(t, address)
			fmt.Fprint(conn, c.raw)
			if c.then != nil {
				c.then(s, conn, r)
			}
			select {
			case got := <-done:
				if got.line != c.want.line || got.status != c.want.status || got.end != c.want.end || !errors.Is(got.err, c.want.err) && c.want.err != nil {
					t.Errorf("got %+v, want %+v", got, c.want)
				}
			case <-time.After(patience):
				t.Error(os.ErrDeadlineExceeded)
			}
			conn.Close()
		})
	}
}

// Beyond the limit some connections are answered once, and Done hears of the others.
func TestSurplus(t *testing.T) {
	s, address, done := serve(t, func(http.ResponseWriter, *http.Request) {}, func(l *h1.Limits) { l.MaxConnections = 1 })
	dial(t, address)
	for deadline := time.Now().Add(patience); s.Connections() == 0; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not accepted")
		}
	}
	conn, r := dial(t, address)
	fmt.Fprint(conn, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
	response, err := http.ReadResponse(r, nil)
	if err != nil || response.StatusCode != http.StatusServiceUnavailable || !response.Close {
		t.Fatal(response, err)
	}
	if got := <-done; got.end != h1.Unread {
		t.Errorf("got %+v", got)
	}
	for range 200 {
		dial(t, address)
	}
	select {
	case got := <-done:
		if got.end != h1.TooMany {
			t.Errorf("got %+v", got)
		}
	case <-time.After(patience):
		t.Error("nothing was refused")
	}
}
