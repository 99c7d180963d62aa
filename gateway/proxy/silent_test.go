package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kvstore/gateway/proxy"
)

// A mute is a backend that accepts connections and requests, and sends nothing.
type mute struct {
	url     string
	unready atomic.Bool // before it goes silent
	silent  atomic.Bool
	asked   atomic.Int32 // how often /readyz was, since it is silent
	gone    atomic.Int32 // how many of those have ended
}

func newMute(t *testing.T, silent bool) *mute {
	t.Helper()
	m := &mute{}
	m.silent.Store(silent)
	backend := asBackend(func() string { return "s" }, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "done") })
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !m.silent.Load() {
			if m.unready.Load() {
				w.WriteHeader(http.StatusServiceUnavailable) // and its store stays unknown
				return
			}
			backend(w, r)
			return
		}
		if r.URL.Path == "/readyz" {
			m.asked.Add(1)
		}
		<-r.Context().Done()
		m.gone.Add(1)
	}))
	t.Cleanup(server.Close)
	m.url = server.URL
	return m
}

// Requests that find no healthy backend wait for one probe together. Before, each had one of its
// own, one after the other.
func TestSilentBackends(t *testing.T) {
	for name, fromTheStart := range map[string]bool{"from the start": true, "later": false} {
		t.Run(name, func(t *testing.T) {
			a, b := newMute(t, fromTheStart), newMute(t, fromTheStart)
			g := start(t, func(c *proxy.Config) { c.ProbeInterval = 100 * time.Millisecond; c.BackendTimeout = time.Minute }, a.url, b.url)
			a.silent.Store(true)
			b.silent.Store(true)
			eventually(t, "noticed", func() bool {
				stats := g.proxy.Stats()
				return !stats.Backends[0].Healthy && !stats.Backends[1].Healthy
			})
			before := a.asked.Load() + b.asked.Load()
			began := time.Now()
			var asking sync.WaitGroup
			for range 30 {
				conn, r := g.dial(t)
				_ = conn.SetDeadline(time.Time{})
				asking.Go(func() {
					fmt.Fprint(conn, "GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
					response, err := http.ReadResponse(r, nil)
					if err != nil {
						t.Error(err)
						return
					}
					body, _ := io.ReadAll(response.Body)
					wantProblem(t, response, string(body), http.StatusServiceUnavailable, "backend_unavailable", "Backend service is unavailable")
				})
			}
			asking.Wait()
			took, probes := time.Since(began), a.asked.Load()+b.asked.Load()-before
			t.Logf("30 requests: %s, %d probes", took.Round(time.Millisecond), probes)
			if took > patience {
				t.Errorf("they took %s", took)
			}
			// Those of the intervals are among them.
			if most := int32(2 * (2 + took/(2*time.Second))); probes > most {
				t.Errorf("%d probes, want at most %d", probes, most)
			}
		})
	}
}

// If a client leaves while its request waits for a probe, the request ends at once, and the probe
// goes on for the others.
func TestClientLeavesDuringAProbe(t *testing.T) {
	a, b := newMute(t, false), newMute(t, false)
	a.unready.Store(true)
	b.unready.Store(true)
	g := start(t, func(c *proxy.Config) { c.ProbeTimeout = time.Minute; neverAgain(c) }, a.url, b.url)
	a.silent.Store(true)
	b.silent.Store(true)
	conn, _ := g.dial(t)
	fmt.Fprint(conn, "PUT /put/k HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n1")
	eventually(t, "the request waits for a probe", func() bool { return a.asked.Load() == 1 })
	_ = conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
	eventually(t, "it is released", func() bool { return g.proxy.Clients() == 0 && g.proxy.Stats().Clients == 0 })
	if a.gone.Load() > 0 {
		t.Error("the probe has ended too")
	}
}
