package proxy_test

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"kvstore/gateway/proxy"
)

// A client that has nothing in flight is forgotten. Otherwise each address that ever asked
// would take memory.
func TestClientsAreForgotten(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", func(http.ResponseWriter, *http.Request) {}).URL)
	for i := range 100 {
		response, body := g.send(t, fmt.Sprintf("GET /get/k HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.%d\r\n\r\n", i))
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%s %s", response.Status, body)
		}
	}
	eventually(t, "nobody is counted", func() bool { return g.proxy.Clients() == 0 })
}

// A client may send a burst, and then so many requests in a second, whatever becomes of them.
// Other clients are not affected, nor are health checks.
func TestRateLimit(t *testing.T) {
	const limit, burst = 2, 5
	g := start(t, func(c *proxy.Config) { c.RateLimit, c.RateBurst = limit, burst }, newBackend(t, "s", func(http.ResponseWriter, *http.Request) {}).URL)
	ask := func(target, from string) (*http.Response, string) {
		return g.send(t, "GET "+target+" HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: "+from+"\r\n\r\n")
	}
	began := time.Now()
	passed, targets := 0, []string{"/get/k", "/metrics", "/health", "/watch?"}
	for i := range 20 {
		response, body := ask(targets[i%len(targets)], "192.0.2.1")
		if response.StatusCode != http.StatusTooManyRequests {
			passed++
			continue
		}
		wantTooMany(t, response, body, http.StatusTooManyRequests, "too_many_requests", "KV_RATE_LIMIT")
	}
	if most := burst + int(limit*time.Since(began).Seconds()) + 1; passed < burst || passed > most {
		t.Errorf("%d requests passed, want %d to %d", passed, burst, most)
	}
	for _, c := range [][2]string{{"/get/k", "192.0.2.2"}, {"/healthz", "192.0.2.1"}} {
		if response, body := ask(c[0], c[1]); response.StatusCode != http.StatusOK {
			t.Errorf("%s of %s: %s %s", c[0], c[1], response.Status, body)
		}
	}
	if n := g.log.count("a client sends too much", "client=192.0.2.1"); n == 0 {
		t.Error("the log does not tell")
	}
	eventually(t, "the client may send again", func() bool {
		response, _ := ask("/get/k", "192.0.2.1")
		return response.StatusCode == http.StatusOK
	})
	eventually(t, "nobody is counted", func() bool { return g.proxy.Clients() == 0 })
}

// newHolding returns a backend that reports and holds all requests but /get/quick.
func newHolding(t *testing.T) (url string, arrived chan string) {
	t.Helper()
	arrived = make(chan string, 8)
	return newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/get/quick" {
			return
		}
		_ = http.NewResponseController(w).Flush()
		arrived <- r.URL.Path
		<-r.Context().Done()
	}).URL, arrived
}

// A stream that has ended no longer counts, though its client has another request in flight.
func TestEndedStreamsAreUncounted(t *testing.T) {
	backend, arrived := newHolding(t)
	g := start(t, func(c *proxy.Config) { c.MaxWatchersPerClient = 1 }, backend)
	slow, _ := g.dial(t)
	fmt.Fprint(slow, "GET /get/slow HTTP/1.1\r\nHost: h\r\n\r\n")
	receive(t, "the slow request", arrived)
	for range 2 {
		stream, reader := g.dial(t)
		eventually(t, "there is room for a stream", func() bool {
			fmt.Fprint(stream, "GET /watch HTTP/1.1\r\nHost: h\r\n\r\n")
			response, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != http.StatusOK {
				response.Body.Close()
				stream, reader = g.dial(t)
			}
			return response.StatusCode == http.StatusOK
		})
		receive(t, "the stream", arrived)
		stream.Close()
	}
}

// foreign makes all clients of a listener come from one address.
type foreign struct {
	net.Listener

	address net.Addr
}

type foreignConn struct {
	net.Conn

	address net.Addr
}

func (c foreignConn) RemoteAddr() net.Addr { return c.address }

func (l foreign) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return foreignConn{conn, l.address}, nil
}

// X-Forwarded-For counts only if the peer is near, as Traefik is, and then only its last
// address.
func TestWhoAClientIs(t *testing.T) {
	for _, c := range []struct {
		peer, first, second string
		same                bool
	}{
		{"127.0.0.1", "192.0.2.1", "198.51.100.7, 203.0.113.9, 192.0.2.1", true},
		{"127.0.0.1", "192.0.2.1, 203.0.113.9, 192.0.2.7", "192.0.2.1, 203.0.113.9, 192.0.2.8", false},
		{"10.1.2.3", "192.0.2.1", "192.0.2.2", false},
		{"198.51.100.7", "192.0.2.1", "192.0.2.2", true}, // from afar: it may say what it likes
		{"2001:db8::1", "192.0.2.1", "192.0.2.2", true},
	} {
		t.Run(c.peer+" "+c.second, func(t *testing.T) {
			backend, arrived := newHolding(t)
			peer := &net.TCPAddr{IP: net.ParseIP(c.peer), Port: 4000}
			g := startBehind(t, func(l net.Listener) net.Listener { return foreign{l, peer} },
				func(cfg *proxy.Config) { cfg.MaxWatchersPerClient = 1 }, backend)
			ask := func(forwardedFor string) string {
				return "GET /watch HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: " + forwardedFor + "\r\n\r\n"
			}
			first, _ := g.dial(t)
			fmt.Fprint(first, ask(c.first))
			receive(t, "the first stream", arrived)
			conn, reader := g.dial(t)
			fmt.Fprint(conn, ask(c.second))
			response, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			if refused := response.StatusCode == http.StatusTooManyRequests; refused != c.same {
				t.Errorf("the second stream gets %s", response.Status)
			}
		})
	}
}
