package proxy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kvstore/gateway/h1"
	"kvstore/gateway/proxy"
	"kvstore/internal/telemetry/telemetrytest"
)

const patience = 10 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A journal is a log that tests can query.
type journal struct{ telemetrytest.Journal }

// count returns how many lines contain every one of words.
func (j *journal) count(words ...string) int {
	n := 0
lines:
	for line := range strings.Lines(j.String()) {
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue lines
			}
		}
		n++
	}
	return n
}

// A gateway is a proxy that serves.
type gateway struct {
	URL   string
	proxy *proxy.Proxy
	log   *journal

	address string
	// Close drains: it waits for the requests in flight.
	Close func() error
}

func (g *gateway) addr() string { return g.address }

func defaults(t *testing.T, backends ...string) (proxy.Config, *journal) {
	t.Helper()
	cfg := proxy.Config{
		Limits:        h1.Limits{MaxConnections: 16_384, BackendTimeout: patience, WriteTimeout: 30 * time.Second, DrainTimeout: patience},
		MaxValueBytes: 1 << 20, ProbeInterval: 20 * time.Millisecond, DrainDelay: time.Millisecond,
		RateBurst: 1, MaxRequestsPerClient: 4_000, MaxWatchersPerClient: 1_000,
	}
	for _, text := range backends {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Backends = append(cfg.Backends, u)
	}
	log := &journal{}
	cfg.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	return cfg, log
}

// start serves a gateway in front of backends; change may adapt its settings.
func start(t *testing.T, change func(*proxy.Config), backends ...string) *gateway {
	t.Helper()
	return startBehind(t, func(l net.Listener) net.Listener { return l }, change, backends...)
}

// startBehind is start with something in front of the listener.
func startBehind(t *testing.T, wrap func(net.Listener) net.Listener, change func(*proxy.Config), backends ...string) *gateway {
	t.Helper()
	cfg, log := defaults(t, backends...)
	if change != nil {
		change(&cfg)
	}
	p, err := proxy.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, wrap(listener)) }()
	address := listener.Addr().String()
	g := &gateway{URL: "http://" + address, address: address, proxy: p, log: log}
	g.Close = sync.OnceValue(func() error {
		cancel()
		return <-served
	})
	t.Cleanup(func() {
		p.EndStreams() // what a failed test left
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		p.Close()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return g
}

// newBackend serves what a backend says of itself, and handle for the rest.
func newBackend(t *testing.T, store string, handle http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(asBackend(func() string { return store }, handle))
	t.Cleanup(func() {
		server.CloseClientConnections() // what a failed test left
		server.Close()
	})
	return server
}

func asBackend(store func() string, handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/readyz":
			fmt.Fprintf(w, `{"status":"ok","store":%q,"version":"test"}`, store())
		case "/health":
			fmt.Fprintf(w, `{"status":"ok","backend":{"status":"ok","version":"test","store":%q},"database":{"status":"ok"}}`, store())
		default:
			handle(w, r)
		}
	}
}

// rawBackend gives each connection to handle, and closes it after.
func rawBackend(t *testing.T, handle func(net.Conn, *bufio.Reader)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				handle(conn, bufio.NewReader(conn))
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		listener.Close()
		serving.Wait()
	})
	return "http://" + listener.Addr().String()
}

// closedAddress returns the URL of a port that refuses connections.
func closedAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	return "http://" + listener.Addr().String()
}

// dial opens a connection to the gateway that fails after a while.
func (g *gateway) dial(t *testing.T) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", g.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// reset closes a connection as a client does that has gone away. One that is only
// closed may be one that still reads.
func reset(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// send writes raw on a connection of its own and reads one answer.
func (g *gateway) send(t *testing.T, raw string) (*http.Response, string) {
	t.Helper()
	conn, r := g.dial(t)
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(raw, " ")
	return answer(t, r, method)
}

func answer(t *testing.T, r *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	response, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	return do(t, http.MethodGet, url, nil, nil)
}

func do(t *testing.T, method, url string, header http.Header, body io.Reader) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	// A client that announces to close gets a reset when it is answered early.
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: patience}
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

// wantProblem checks an error answer, and the headers that every one has.
func wantProblem(t *testing.T, response *http.Response, body string, status int, code, detail string) {
	t.Helper()
	var got struct {
		Status       int
		Code, Detail string
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%s %q: %v", response.Status, body, err)
	}
	if response.StatusCode != status || got.Status != status || got.Code != code || detail != "" && got.Detail != detail {
		t.Errorf("got %d %+v, want %d %s %q", response.StatusCode, got, status, code, detail)
	}
	if kind := response.Header.Get("Content-Type"); kind != "application/problem+json" {
		t.Errorf("Content-Type: %s", kind)
	}
	if ids := response.Header["X-Request-Id"]; len(ids) != 1 || ids[0] == "" {
		t.Errorf("X-Request-Id: %q", ids)
	}
	if retry := response.Header.Get("Retry-After"); (retry == "1") != (status == http.StatusServiceUnavailable) {
		t.Errorf("Retry-After: %q", retry)
	}
}

// eventually polls until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s", patience, what)
		case <-ticker.C:
		}
	}
}

// receive returns what comes over c.
func receive[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("not within %s: %s", patience, what)
		panic("unreachable")
	}
}
