package proxy_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kvstore/gateway/proxy"
)

// three returns backends of one store and their addresses.
func three(t *testing.T) (replicas [3]*replica, urls []string) {
	t.Helper()
	for i := range replicas {
		replicas[i] = newReplica(t, "s")
		urls = append(urls, replicas[i].url)
	}
	return replicas, urls
}

// wantServed sends n reads and one write of each method to g, and checks how many of them each
// backend gets.
func wantServed(t *testing.T, g *gateway, replicas [3]*replica, n int, reads, writes [3]int32) {
	t.Helper()
	var before, gotReads, gotWrites [3]int32
	for i, r := range replicas {
		before[i], gotWrites[i] = r.served.Load(), -r.writes.Load()
	}
	for i := range n {
		method := []string{http.MethodGet, http.MethodHead}[i%2]
		if response, _ := do(t, method, g.URL+"/get/k", nil, nil); response.StatusCode != http.StatusOK {
			t.Error(method, response.Status)
		}
	}
	for _, method := range []string{"PUT", "POST", "PATCH", "DELETE", "OPTIONS"} {
		if response, _ := do(t, method, g.URL+"/put/k", nil, nil); response.StatusCode != http.StatusOK {
			t.Error(method, response.Status)
		}
	}
	for i, r := range replicas {
		gotWrites[i] += r.writes.Load()
		gotReads[i] = r.served.Load() - before[i] - gotWrites[i]
	}
	if diff := cmp.Diff([2][3]int32{reads, writes}, [2][3]int32{gotReads, gotWrites}); diff != "" {
		t.Errorf("reads and writes of each backend (-want +got):\n%s", diff)
	}
}

// awaitHealth waits until the gateway knows which backends are healthy.
func (g *gateway) awaitHealth(t *testing.T, want ...bool) {
	t.Helper()
	var got []bool
	eventually(t, "the gateway knows which are healthy", func() bool {
		got = nil
		for _, b := range g.proxy.Stats().Backends {
			got = append(got, b.Healthy)
		}
		return cmp.Equal(want, got)
	})
}

// Every gateway sends writes to the first healthy backend, also one that starts later, and reads
// to all.
func TestOrderOfWrites(t *testing.T) {
	replicas, urls := three(t)
	one, two := start(t, nil, urls...), start(t, nil, urls...)
	all := [3]int32{10, 10, 10}
	for _, g := range []*gateway{one, two, start(t, nil, urls...)} {
		wantServed(t, g, replicas, 30, all, [3]int32{5, 0, 0})
	}
	replicas[0].ill.Store(true)
	for _, g := range []*gateway{one, two, start(t, nil, urls...)} {
		g.awaitHealth(t, false, true, true)
		wantServed(t, g, replicas, 30, [3]int32{0, 15, 15}, [3]int32{0, 5, 0})
	}
	replicas[0].ill.Store(false)
	one.awaitHealth(t, true, true, true)
	wantServed(t, one, replicas, 30, all, [3]int32{5, 0, 0})
}

// A write that the first backend does not take goes to the second at once, and the first gets the
// writes again when it is back.
func TestFailoverOfWrites(t *testing.T) {
	replicas, urls := three(t)
	g := start(t, nil, urls...)
	for range 3 {
		replicas[0].stop()
		wantServed(t, g, replicas, 0, [3]int32{}, [3]int32{0, 5, 0})
		replicas[0].restart(t)
		g.awaitHealth(t, true, true, true)
		wantServed(t, g, replicas, 0, [3]int32{}, [3]int32{5, 0, 0})
	}
	eventually(t, "all writes are counted", func() bool {
		b := g.proxy.Stats().Backends
		return b[0].Writes == 15 && b[1].Writes == 15 && b[2].Writes == 0
	})
}

func TestLaggingBackends(t *testing.T) {
	replicas, urls := three(t)
	g := start(t, func(c *proxy.Config) { c.MaxLag = 3 * time.Second }, urls...)
	lag := func(ms ...int64) {
		for i, r := range replicas {
			r.lagMS.Store(ms[i])
		}
	}
	lag(3001, 3000, 0)
	g.awaitHealth(t, false, true, true)
	wantServed(t, g, replicas, 30, [3]int32{0, 15, 15}, [3]int32{0, 5, 0})
	if g.log.count("unhealthy", urls[0], "3.001s", "KV_MAX_LAG is 3s") != 1 {
		t.Error("the log does not say why")
	}
	b := g.proxy.Stats().Backends[0]
	if b.Healthy || !b.Ready || b.Lag != 3001*time.Millisecond || b.Revision != 7 {
		t.Errorf("%+v", b)
	}
	lag(0, 0, 0)
	g.awaitHealth(t, true, true, true)
	wantServed(t, g, replicas, 30, [3]int32{10, 10, 10}, [3]int32{5, 0, 0})
	t.Run("all of them", func(t *testing.T) {
		lag(3001, 1<<40, 3001)
		g.awaitHealth(t, false, false, false)
		wantServed(t, g, replicas, 30, [3]int32{10, 10, 10}, [3]int32{5, 0, 0})
	})
	t.Run("are better than those that are ill", func(t *testing.T) {
		replicas[0].ill.Store(true)
		eventually(t, "it is known", func() bool { return !g.proxy.Stats().Backends[0].Ready })
		wantServed(t, g, replicas, 30, [3]int32{0, 15, 15}, [3]int32{0, 5, 0})
	})
}

// A gateway that starts while the database does not answer uses backends that tell their store,
// and no others.
func TestStartWithoutDatabase(t *testing.T) {
	replicas, urls := three(t)
	for i, r := range replicas {
		r.ill.Store(true)
		r.tells.Store(i < 2)
	}
	wantServed(t, start(t, nil, urls...), replicas, 30, [3]int32{15, 15, 0}, [3]int32{5, 0, 0})
	other := "other"
	replicas[1].store.Store(&other)
	cfg, _ := defaults(t, urls...)
	if _, err := proxy.New(t.Context(), cfg); !errors.Is(err, proxy.ErrBackendsDiffer) {
		t.Errorf("different stores: %v", err)
	}
}
