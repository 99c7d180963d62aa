package proxy_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"kvstore/gateway/proxy"
)

// wantTooMany checks a 429 or 503, which names the limit.
func wantTooMany(t *testing.T, response *http.Response, body string, status int, code, option string) {
	t.Helper()
	var got struct{ Code, Detail string }
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%s %q: %v", response.Status, body, err)
	}
	if response.StatusCode != status || got.Code != code || !strings.Contains(got.Detail, option) || response.Header.Get("Retry-After") != "1" {
		t.Errorf("got %s %+v %v", response.Status, got, response.Header)
	}
}

// The limits on streams and requests are for each client: the last address of
// X-Forwarded-For, and with IPv6 its network.
func TestLimitsPerClient(t *testing.T) {
	arrived, finish := make(chan string, 8), make(chan struct{})
	backend := newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/get/quick" {
			return
		}
		_ = http.NewResponseController(w).Flush()
		arrived <- r.URL.Path
		select {
		case <-finish:
		case <-r.Context().Done():
		}
	})
	g := start(t, func(c *proxy.Config) { c.MaxWatchersPerClient, c.MaxRequestsPerClient = 1, 2 }, backend.URL)
	defer close(finish)
	ask := func(target, client string) string {
		return fmt.Sprintf("GET %s HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: %s\r\n\r\n", target, client)
	}
	first, _ := g.dial(t)
	fmt.Fprint(first, ask("/watch", "192.0.2.1"))
	receive(t, "the stream", arrived)
	for _, same := range []string{"192.0.2.1", "203.0.113.9, 192.0.2.1"} {
		response, body := g.send(t, ask("/watch", same))
		wantTooMany(t, response, body, http.StatusTooManyRequests, "too_many_watchers", "KV_MAX_WATCHERS_PER_CLIENT")
	}
	for _, other := range []string{"192.0.2.2", "192.0.2.1, 192.0.2.3", "2001:db8::1"} {
		conn, _ := g.dial(t)
		fmt.Fprint(conn, ask("/watch", other))
		receive(t, "the stream of "+other, arrived)
	}
	response, body := g.send(t, ask("/watch", "2001:db8::ffff:1"))
	wantTooMany(t, response, body, http.StatusTooManyRequests, "too_many_watchers", "KV_MAX_WATCHERS_PER_CLIENT")

	slow, _ := g.dial(t)
	fmt.Fprint(slow, ask("/get/slow", "192.0.2.1"))
	receive(t, "the second request", arrived)
	response, body = g.send(t, ask("/get/quick", "192.0.2.1"))
	wantTooMany(t, response, body, http.StatusTooManyRequests, "too_many_requests", "KV_MAX_REQUESTS_PER_CLIENT")
	if response, body := g.send(t, ask("/healthz", "192.0.2.1")); response.StatusCode != http.StatusOK {
		t.Errorf("/healthz: %s %s", response.Status, body)
	}
	first.Close()
	slow.Close()
	eventually(t, "there is room again", func() bool {
		response, _ := g.send(t, ask("/get/quick", "192.0.2.1"))
		return response.StatusCode == http.StatusOK
	})
}

func TestMaxConnections(t *testing.T) {
	g := start(t, func(c *proxy.Config) { c.MaxConnections = 2 }, newBackend(t, "s", func(http.ResponseWriter, *http.Request) {}).URL)
	one, reader := g.dial(t)
	two, _ := g.dial(t)
	fmt.Fprint(one, "GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
	if response, _ := answer(t, reader, "GET"); response.StatusCode != http.StatusOK {
		t.Fatal(response.Status)
	}
	fmt.Fprint(two, "GET /get") // it does not come to its end
	eventually(t, "a third is turned away", func() bool {
		response, _ := g.send(t, "GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
		return response.StatusCode != http.StatusOK
	})
	response, body := g.send(t, "PUT /put/k HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n1")
	wantTooMany(t, response, body, http.StatusServiceUnavailable, "too_many_connections", "KV_MAX_CONNECTIONS")
	if response, _ := g.send(t, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"); response.StatusCode != http.StatusOK {
		t.Errorf("/healthz: %s", response.Status)
	}
	fmt.Fprint(one, "GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
	if response, _ := answer(t, reader, "GET"); response.StatusCode != http.StatusOK {
		t.Errorf("a connection that was there: %s", response.Status)
	}
	two.Close()
	eventually(t, "there is room again", func() bool {
		response, _ := g.send(t, "GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
		return response.StatusCode == http.StatusOK
	})
}

// Those who ask /healthz are told before the gateway stops. Until then it serves, even new
// connections, and each answer ends its connection.
func TestLeave(t *testing.T) {
	arrived := make(chan string, 1)
	backend := newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/watch" {
			_ = http.NewResponseController(w).Flush()
			arrived <- r.URL.Path
			<-r.Context().Done()
		}
	})
	g := start(t, func(c *proxy.Config) { c.DrainDelay = patience }, backend.URL)
	const alive = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
	if response, _ := g.send(t, alive); response.StatusCode != http.StatusOK {
		t.Fatal(response.Status)
	}
	idle, reader := g.dial(t) // such as a load balancer keeps
	fmt.Fprint(idle, "GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
	answer(t, reader, "GET")
	stream, _ := g.dial(t)
	fmt.Fprint(stream, "GET /watch HTTP/1.1\r\nHost: h\r\n\r\n")
	receive(t, "the stream", arrived)
	stopped := make(chan error, 1)
	go func() { stopped <- g.Close() }()
	eventually(t, "answers end their connections", func() bool {
		response, _ := g.send(t, "GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
		return response.StatusCode == http.StatusOK && response.Close
	})
	fmt.Fprint(idle, "PUT /put/k HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n1")
	if response, _ := answer(t, reader, "PUT"); response.StatusCode != http.StatusOK || !response.Close {
		t.Errorf("on a connection that was idle: %s, close %t", response.Status, response.Close)
	}
	select {
	case err := <-stopped:
		t.Errorf("it has stopped before it was asked: %v", err)
	default:
	}
	response, body := g.send(t, alive)
	wantProblem(t, response, body, http.StatusServiceUnavailable, "stopping", "")
	if err := receive(t, "the end", stopped); err != nil {
		t.Error(err)
	}
}

// If nobody asks /healthz, nobody needs to be told.
func TestLeaveAtOnce(t *testing.T) {
	g := start(t, func(c *proxy.Config) { c.DrainDelay = time.Hour }, newBackend(t, "s", func(http.ResponseWriter, *http.Request) {}).URL)
	g.dial(t)
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}
