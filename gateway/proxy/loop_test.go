package proxy_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"kvstore/gateway/proxy"
)

// counted is a listener that counts what it accepts.
type counted struct {
	net.Listener

	accepted atomic.Int32
}

func (l *counted) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return conn, err
}

// serveLoop serves a gateway with these backends on listener.
func serveLoop(t *testing.T, listener net.Listener, backends ...string) *gateway {
	t.Helper()
	cfg, log := defaults(t, backends...)
	p, err := proxy.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := receive(t, "the end of Serve", served); err != nil {
			t.Error(err)
		}
		p.Close()
	})
	return &gateway{URL: "http://" + listener.Addr().String(), address: listener.Addr().String(), proxy: p, log: log}
}

func newListener(t *testing.T) *counted {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &counted{Listener: listener}
}

// A gateway whose backend is itself refuses requests. Before, one became 2,250.
func TestLoops(t *testing.T) {
	ask := func(t *testing.T, g *gateway) {
		t.Helper()
		for _, line := range []string{"GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n", "PUT /put/k HTTP/1.1\r\nHost: h\r\nConnection: via\r\nContent-Length: 1\r\n\r\n1"} {
			response, body := g.send(t, line)
			wantProblem(t, response, body, http.StatusLoopDetected, "loop_detected", "")
			if !strings.Contains(body, "KV_BACKENDS") {
				t.Error(body)
			}
		}
		response, body := get(t, g.URL+"/health")
		wantProblem(t, response, body, http.StatusServiceUnavailable, "unhealthy", "Service is unhealthy")
		if strings.Contains(body, "127.0.0.1") {
			t.Errorf("/health shows an address: %s", body)
		}
	}
	t.Run("of one", func(t *testing.T) {
		listener := newListener(t)
		g := serveLoop(t, listener, "http://"+listener.Addr().String())
		ask(t, g)
		eventually(t, "it is known", func() bool { return g.log.count("unhealthy", "KV_BACKENDS", "itself") == 1 })
		before := listener.accepted.Load()
		ask(t, g)
		if n := listener.accepted.Load() - before; n > 20 {
			t.Errorf("two requests and one of /health made %d connections", n)
		}
	})
	t.Run("of two", func(t *testing.T) {
		one, two := newListener(t), newListener(t)
		g := serveLoop(t, one, "http://"+two.Addr().String())
		serveLoop(t, two, "http://"+one.Addr().String())
		ask(t, g)
		if n := one.accepted.Load() + two.accepted.Load(); n > 40 {
			t.Errorf("two requests and one of /health made %d connections", n)
		}
	})
	t.Run("beside a backend", func(t *testing.T) {
		listener := newListener(t)
		a := newReplica(t, "s")
		g := serveLoop(t, listener, "http://"+listener.Addr().String(), a.url)
		for range 10 {
			if response, body := get(t, g.URL+"/get/k"); response.StatusCode != http.StatusOK || body != a.url {
				t.Errorf("%s %s", response.Status, body)
			}
		}
	})
}

// Via has this hop after the earlier ones. The name of another gateway is no loop.
func TestVia(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%q", r.Header["Via"]) }).URL)
	_, first := g.send(t, "GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
	name, found := strings.CutPrefix(strings.Trim(first, `[]"`), "1.1 kv-gateway-")
	if !found || len(name) < 8 {
		t.Fatalf("got %s", first)
	}
	_, other := g.send(t, "GET /get/k HTTP/1.0\r\nVia: 1.0 fred, 1.1 kv-gateway\r\nVia: 1.1 p (it)\r\n\r\n")
	if want := fmt.Sprintf(`["1.0 fred, 1.1 kv-gateway" "1.1 p (it)" "1.0 kv-gateway-%s"]`, name); other != want {
		t.Errorf("got %s, want %s", other, want)
	}
	response, body := g.send(t, "GET /get/k HTTP/1.1\r\nHost: h\r\nvia: 1.0 fred,1.1 kv-gateway-"+name+" (x)\r\n\r\n")
	wantProblem(t, response, body, http.StatusLoopDetected, "loop_detected", "")
}
