package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kvstore/gateway/proxy"
)

// A replica is a backend whose store, health and reachability a test changes.
type replica struct {
	url    string
	store  atomic.Pointer[string]
	ill    atomic.Bool  // /readyz answers 503
	tells  atomic.Bool  // its store, even then
	lagMS  atomic.Int64 // at /readyz
	served atomic.Int32
	writes atomic.Int32 // of served

	server *httptest.Server
}

func newReplica(t *testing.T, store string) *replica {
	t.Helper()
	r := &replica{}
	r.store.Store(&store)
	r.listen(t, "127.0.0.1:0")
	t.Cleanup(func() { r.server.Close() })
	return r
}

func (r *replica) listen(t *testing.T, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewUnstartedServer(http.HandlerFunc(r.answer))
	r.server.Listener.Close()
	r.server.Listener = listener
	r.server.Start()
	r.url = r.server.URL
}

func (r *replica) answer(w http.ResponseWriter, request *http.Request) {
	switch store := *r.store.Load(); {
	case request.URL.Path != "/readyz":
		asBackend(func() string { return store }, r.serve)(w, request)
	case !r.ill.Load():
		fmt.Fprintf(w, `{"status":"ok","store":%q,"version":"test","revision":7,"commit":3,"lag_ms":%d}`, store, r.lagMS.Load())
	case r.tells.Load():
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, `{"status":503,"code":"store_unavailable","store":%q}`, store)
	default:
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func (r *replica) serve(w http.ResponseWriter, request *http.Request) {
	r.served.Add(1)
	if request.Method != http.MethodGet && request.Method != http.MethodHead {
		r.writes.Add(1)
	}
	fmt.Fprint(w, r.url)
}

func (r *replica) stop() { r.server.Close() }
func (r *replica) restart(t *testing.T) {
	t.Helper()
	r.listen(t, strings.TrimPrefix(r.url, "http://"))
}

// neverAgain probes the backends only at the start.
func neverAgain(c *proxy.Config) { c.ProbeInterval = time.Hour }

func TestRequestsAreSpread(t *testing.T) {
	a, b, c := newReplica(t, "s"), newReplica(t, "s"), newReplica(t, "s")
	g := start(t, nil, a.url, b.url, c.url)
	for range 30 {
		get(t, g.URL+"/get/k")
	}
	if a.served.Load() != 10 || b.served.Load() != 10 || c.served.Load() != 10 {
		t.Errorf("served %d, %d, %d", a.served.Load(), b.served.Load(), c.served.Load())
	}
	b.ill.Store(true)
	eventually(t, "b is known to be ill", func() bool { return g.log.count("unhealthy", b.url) == 1 })
	for range 30 {
		get(t, g.URL+"/get/k")
	}
	if a.served.Load() != 25 || b.served.Load() != 10 || c.served.Load() != 25 {
		t.Errorf("without b: served %d, %d, %d", a.served.Load(), b.served.Load(), c.served.Load())
	}
}

func TestUnhealthyBackends(t *testing.T) {
	t.Run("the only one is used", func(t *testing.T) {
		a := newReplica(t, "s")
		a.ill.Store(true)
		g := start(t, nil, a.url)
		eventually(t, "noticed", func() bool { return g.log.count("unhealthy") == 1 })
		if response, _ := get(t, g.URL+"/get/k"); response.StatusCode != http.StatusOK {
			t.Error(response.Status)
		}
	})
	t.Run("all are used when none is healthy", func(t *testing.T) {
		a, b := newReplica(t, "s"), newReplica(t, "s")
		g := start(t, nil, a.url, b.url)
		a.ill.Store(true)
		b.ill.Store(true)
		eventually(t, "noticed", func() bool { return g.log.count("unhealthy") == 2 })
		for range 10 {
			get(t, g.URL+"/get/k")
		}
		if a.served.Load() != 5 || b.served.Load() != 5 {
			t.Errorf("served %d, %d", a.served.Load(), b.served.Load())
		}
	})
	t.Run("recovery is immediate", func(t *testing.T) {
		a, b := newReplica(t, "s"), newReplica(t, "s")
		g := start(t, neverAgain, a.url, b.url)
		a.stop()
		b.stop()
		response, body := get(t, g.URL+"/get/k")
		wantProblem(t, response, body, http.StatusServiceUnavailable, "backend_unavailable", "Backend service is unavailable")
		b.restart(t)
		if response, body := get(t, g.URL+"/get/k"); body != b.url {
			t.Error(response.Status, body)
		}
	})
	t.Run("changes are logged once", func(t *testing.T) {
		a := newReplica(t, "s")
		g := start(t, nil, a.url)
		for i := range 3 {
			eventually(t, "healthy", func() bool { return g.log.count("backend is healthy") == i+1 })
			a.stop()
			get(t, g.URL+"/get/k")
			get(t, g.URL+"/get/k")
			eventually(t, "unhealthy", func() bool { return g.log.count("backend is unhealthy") == i+1 })
			a.restart(t)
		}
	})
}

func TestWhatIsNoBackendIsUnhealthy(t *testing.T) {
	for name, said := range map[string]string{
		"no store": `{"status":"ok"}`, "not ok": `{"status":"failed","store":"s"}`, "no JSON": "hello", "nothing": "",
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, said) }))
			t.Cleanup(server.Close)
			g := start(t, neverAgain, server.URL)
			if g.log.count("unhealthy", "/readyz") != 1 {
				t.Error("is healthy")
			}
		})
	}
	t.Run("redirect", func(t *testing.T) {
		a := newReplica(t, "s")
		server := httptest.NewServer(http.RedirectHandler(a.url+"/readyz", http.StatusFound))
		t.Cleanup(server.Close)
		if g := start(t, neverAgain, server.URL); g.log.count("unhealthy", "302") != 1 {
			t.Error("is healthy")
		}
	})
}

func TestDifferentStores(t *testing.T) {
	t.Run("at start", func(t *testing.T) {
		a, b := newReplica(t, "s1"), newReplica(t, "s2")
		cfg, _ := defaults(t, a.url, closedAddress(t), b.url)
		_, err := proxy.New(t.Context(), cfg)
		if !errors.Is(err, proxy.ErrBackendsDiffer) {
			t.Fatal(err)
		}
		want := "KV_BACKENDS names backends of different stores: " + a.url + " serves store s1, " + b.url + " serves store s2"
		if err.Error() != want {
			t.Errorf("got %v", err)
		}
	})
	t.Run("later", func(t *testing.T) {
		a, b := newReplica(t, "s1"), newReplica(t, "s1")
		g := start(t, nil, a.url, b.url)
		get(t, g.URL+"/get/k")
		other := "s2"
		b.store.Store(&other)
		eventually(t, "noticed", func() bool { return g.log.count("ERROR", "requests are refused") == 1 })
		served := a.served.Load() + b.served.Load()
		for _, method := range []string{"GET", "PUT"} {
			response, body := do(t, method, g.URL+"/put/k", nil, nil)
			wantProblem(t, response, body, http.StatusServiceUnavailable, "backends_differ",
				"KV_BACKENDS names backends of different stores: "+a.url+" serves store s1, "+b.url+" serves store s2")
		}
		if now := a.served.Load() + b.served.Load(); now != served {
			t.Error("a backend was asked")
		}
		response, body := get(t, g.URL+"/health")
		wantProblem(t, response, body, http.StatusServiceUnavailable, "unhealthy", "Service is unhealthy")
		if strings.Contains(body, "127.0.0.1") {
			t.Errorf("/health shows an address: %s", body)
		}
		if response, _ := get(t, g.URL+"/healthz"); response.StatusCode != http.StatusOK {
			t.Error(response.Status)
		}
		// A backend that is down still is what it was.
		b.stop()
		eventually(t, "noticed", func() bool { return g.log.count("unhealthy", b.url) == 1 })
		response, body = get(t, g.URL+"/get/k")
		wantProblem(t, response, body, http.StatusServiceUnavailable, "backends_differ", "")
		same := "s1"
		b.store.Store(&same)
		b.restart(t)
		eventually(t, "served again", func() bool { response, _ := get(t, g.URL+"/get/k"); return response.StatusCode == http.StatusOK })
		if n := g.log.count("ERROR"); n != 1 {
			t.Errorf("%d errors logged", n)
		}
	})
	// b was not probed before the request, which it must not serve.
	t.Run("of a stranger", func(t *testing.T) {
		a, b := newReplica(t, "s1"), newReplica(t, "s2")
		b.stop()
		g := start(t, neverAgain, a.url, b.url)
		a.stop()
		b.restart(t)
		response, body := do(t, http.MethodPut, g.URL+"/put/k", nil, strings.NewReader("1"))
		wantProblem(t, response, body, http.StatusServiceUnavailable, "backends_differ", "")
		if n := b.served.Load(); n != 0 {
			t.Errorf("served %d", n)
		}
	})
	t.Run("of one backend alone is no matter", func(t *testing.T) {
		a := newReplica(t, "s1")
		g := start(t, nil, a.url)
		other := "s2"
		a.store.Store(&other)
		eventually(t, "noticed", func() bool { return g.log.count("another store", "s1", "s2") == 1 })
		if response, _ := get(t, g.URL+"/get/k"); response.StatusCode != http.StatusOK {
			t.Error(response.Status)
		}
	})
}

func TestCloseEndsTheProbes(t *testing.T) {
	silent := rawBackendThatHangs(t) // so that a probe is under way
	a := newReplica(t, "s")
	before := goleak.IgnoreCurrent()
	cfg, _ := defaults(t, a.url, silent)
	cfg.ProbeInterval = time.Millisecond
	p, err := proxy.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	a.stop()
	goleak.VerifyNone(t, before)
}

// The end of the context ends the probes too. A probe that it interrupts changes nothing.
func TestContextEndsTheProbes(t *testing.T) {
	silent := rawBackendThatHangs(t)
	before := goleak.IgnoreCurrent()
	cfg, log := defaults(t, silent)
	cfg.ProbeInterval = time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	p, err := proxy.New(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	goleak.VerifyNone(t, before)
	if log.String() != "" {
		t.Error(log.String())
	}
}
