package proxy_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// holdAll returns a backend that answers only once all requests of the group have arrived.
func holdAll(t *testing.T, waiting *sync.WaitGroup) (url string, dials *atomic.Int32) {
	t.Helper()
	backend, dials := newCounted(t, asBackend(func() string { return "s" }, func(http.ResponseWriter, *http.Request) {
		waiting.Done()
		waiting.Wait()
	}))
	return backend.URL, dials
}

// However many requests run at once, the connections to a backend are used again. Before, all
// but 512 were closed after each burst and made again for the next.
func TestConnectionsAreKept(t *testing.T) {
	const clients, rounds = 2000, 2
	var waiting sync.WaitGroup
	backend, dials := holdAll(t, &waiting)
	g := start(t, neverAgain, backend)
	conns := make([]net.Conn, clients)
	readers := make([]*bufio.Reader, clients)
	for i := range conns {
		conns[i], readers[i] = g.dial(t)
		_ = conns[i].SetDeadline(time.Now().Add(time.Minute)) // the machine may be slow
	}
	probes := dials.Load()
	for round := range rounds {
		waiting.Add(clients)
		var answered sync.WaitGroup
		var failed atomic.Int32
		for i, conn := range conns {
			answered.Go(func() {
				fmt.Fprint(conn, "GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
				response, err := http.ReadResponse(readers[i], nil)
				if err != nil || response.StatusCode != http.StatusOK {
					failed.Add(1)
				}
			})
		}
		answered.Wait()
		if failed.Load() > 0 {
			t.Fatalf("round %d: %d failed", round, failed.Load())
		}
	}
	made := dials.Load() - probes
	t.Logf("%d clients, %d requests each: %d dials", clients, rounds, made)
	if made > clients*11/10 {
		t.Errorf("%d clients made %d dials", clients, made)
	}
}

// The connections to a backend that is gone are closed.
func TestBackendThatIsGoneKeepsNothing(t *testing.T) {
	a := newReplica(t, "s")
	g := start(t, nil, a.url)
	get(t, g.URL+"/get/k")
	eventually(t, "one is kept", func() bool { return g.proxy.Stats().Backends[0].Idle == 1 })
	a.stop()
	eventually(t, "it is closed", func() bool { stats := g.proxy.Stats().Backends[0]; return stats.Open == 0 && !stats.Healthy })
}
