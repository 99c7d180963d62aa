package proxy_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kvstore/gateway/proxy"
)

// counting makes server count the connections that it accepts.
func counting(server *httptest.Server) *atomic.Int32 {
	var dials atomic.Int32
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			dials.Add(1)
		}
	}
	return &dials
}

// newCounted returns a backend that counts the connections it accepts.
func newCounted(t *testing.T, handle http.HandlerFunc) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	server := httptest.NewUnstartedServer(handle)
	dials := counting(server)
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections() // what a failed test left
		server.Close()
	})
	return server, dials
}

// Concurrent requests for /health share one report, and connections to the backend are kept.
// Before, each request asked again, and nearly each made a connection.
func TestHealthIsShared(t *testing.T) {
	const clients, rounds = 50, 20
	var asked atomic.Int32
	backend, dials := newCounted(t, asBackend(func() string { return "s" }, nil))
	serve := backend.Config.Handler
	backend.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			asked.Add(1)
		}
		serve.ServeHTTP(w, r)
	})
	g := start(t, neverAgain, backend.URL)
	var asking sync.WaitGroup
	for range clients {
		conn, r := g.dial(t)
		asking.Go(func() {
			for range rounds {
				fmt.Fprint(conn, "GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
				response, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if response.StatusCode != http.StatusOK {
					t.Error(response.Status)
				}
				_, _ = r.Discard(int(response.ContentLength))
			}
		})
	}
	asking.Wait()
	t.Logf("%d requests: the backend was asked %d times on %d connections", clients*rounds, asked.Load(), dials.Load())
	// A report is used for 250 ms, and the machine may be slow.
	if asked.Load() > clients*rounds/10 {
		t.Errorf("%d requests asked the backend %d times", clients*rounds, asked.Load())
	}
	if dials.Load() > 4 {
		t.Errorf("%d connections", dials.Load())
	}
}

// A request for /health counts for its client. If it waits, it ends with its client.
func TestHealthCountsForItsClient(t *testing.T) {
	arrived, finish := make(chan struct{}, 8), make(chan struct{})
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			arrived <- struct{}{}
			<-finish
		}
		asBackend(func() string { return "s" }, nil)(w, r)
	}))
	t.Cleanup(backend.Close)
	answerAll := sync.OnceFunc(func() { close(finish) })
	t.Cleanup(answerAll)
	g := start(t, func(c *proxy.Config) { c.MaxRequestsPerClient, c.ProbeTimeout = 1, time.Minute; neverAgain(c) }, backend.URL)
	ask := func(client string) string {
		return "GET /health HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: " + client + "\r\n\r\n"
	}
	first, _ := g.dial(t)
	fmt.Fprint(first, ask("192.0.2.1"))
	receive(t, "the question", arrived)
	response, body := g.send(t, ask("192.0.2.1"))
	wantTooMany(t, response, body, http.StatusTooManyRequests, "too_many_requests", "KV_MAX_REQUESTS_PER_CLIENT")
	_ = first.(*net.TCPConn).SetLinger(0)
	first.Close()
	eventually(t, "the client that left counts no more", func() bool { return g.proxy.Clients() == 0 })
	if len(arrived) > 0 {
		t.Error("the backend was asked again")
	}
	second, reader := g.dial(t)
	fmt.Fprint(second, ask("192.0.2.1"))
	eventually(t, "the second waits", func() bool { return g.proxy.Clients() == 1 })
	answerAll()
	if response, _ := answer(t, reader, "GET"); response.StatusCode != http.StatusOK {
		t.Error(response.Status)
	}
	if len(arrived) > 0 {
		t.Error("the second did not share the question of the first")
	}
}

// /health tells of each backend, in the order of KV_BACKENDS, and of the database what the best of
// them says.
func TestHealthOfEachBackend(t *testing.T) {
	shared := func(lag int, database string) string {
		return fmt.Sprintf(`{"backend":{"status":"ok","version":"v","store":"s","revision":9,"commit":4,"lag_ms":%d},"database":%s}`, lag, database)
	}
	const (
		ok, lost = `{"status":"ok","version":"15.4","primary":true}`, `{"status":"failed","detail":"no connection"}`
		late     = "it has not confirmed for 1.001s that it has the store's last commit (KV_MAX_LAG is 1s)"

		isWell    = `{"status":"ok","version":"v","revision":9,"commit":4}`
		isAtLimit = `{"status":"ok","version":"v","revision":9,"commit":4,"lag_ms":1000}`
		isLate    = `{"status":"lagging","version":"v","revision":9,"commit":4,"lag_ms":1001,"detail":"` + late + `"}`
		isLost    = `{"status":"failed","version":"v","revision":9,"commit":4,"lag_ms":5000,"detail":"no connection"}`
		isGone    = `{"status":"failed","detail":"Backend service is unavailable"}`
	)
	lagging, without := saying(t, 200, shared(1001, ok)), saying(t, 503, shared(5000, lost))
	for name, test := range map[string]struct {
		backends                []string
		status                  int
		backend, database, each string
	}{
		"one": {
			[]string{saying(t, 200, shared(0, ok))}, http.StatusOK,
			`{"status":"ok","version":"v","healthy":1,"configured":1,"store":"s"}`, ok, "[" + isWell + "]",
		},
		"one of each": {
			[]string{closedAddress(t), without, lagging, saying(t, 200, shared(1000, ok))}, http.StatusOK,
			`{"status":"ok","version":"v","healthy":1,"configured":4,"store":"s"}`, ok,
			"[" + isGone + "," + isLost + "," + isLate + "," + isAtLimit + "]",
		},
		"one lags at best": {
			[]string{without, lagging}, http.StatusOK,
			`{"status":"ok","version":"v","healthy":0,"configured":2,"store":"s","detail":"` + late + `"}`, ok, "[" + isLost + "," + isLate + "]",
		},
		"none": {
			[]string{closedAddress(t), without}, http.StatusServiceUnavailable,
			`{"status":"ok","version":"v","healthy":0,"configured":2,"store":"s"}`, lost, "[" + isGone + "," + isLost + "]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			response, body := get(t, start(t, neverAgain, test.backends...).URL+"/health")
			var got struct{ Backend, Backends, Database json.RawMessage }
			if err := json.Unmarshal([]byte(body), &got); err != nil || response.StatusCode != test.status {
				t.Errorf("%s %v", response.Status, err)
			}
			parts := []string{string(got.Backend), string(got.Backends), string(got.Database)}
			if diff := cmp.Diff([]string{test.backend, test.each, test.database}, parts); diff != "" {
				t.Error(diff)
			}
		})
	}
}
