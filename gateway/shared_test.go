package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"kvstore/backend/database/postgres/postgrestest"
)

// A cluster is three backends of one store on PostgreSQL, and two gateways.
type cluster struct {
	t            *testing.T // which the programs end with
	program, url string     // of the backends, and of their database
	addresses    []string
	backends     []*exec.Cmd
	gateways     [2]*exec.Cmd
	urls         [2]string // of the gateways
	metrics      [2]string
}

func newCluster(t *testing.T, url string) *cluster {
	t.Helper()
	c := &cluster{t: t, program: filepath.Join(t.TempDir(), "backend"), url: url}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", c.program, "../backend").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for i := range 3 {
		port, err := postgrestest.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		c.addresses, c.backends = append(c.addresses, fmt.Sprintf("127.0.0.1:%d", port)), append(c.backends, nil)
		c.startBackend(i)
	}
	for i := range c.gateways {
		c.startGateway(i)
	}
	return c
}

func (c *cluster) startBackend(i int) {
	c.t.Helper()
	command, log := startProgram(c.t, c.program, "KV_BACKEND_ADDR="+c.addresses[i], "KV_DATABASE_URL="+c.url)
	log.address(c.t)
	c.backends[i] = command
}

func (c *cluster) startGateway(i int) {
	c.t.Helper()
	command, log := process(c.t, "KV_GATEWAY_ADDR=127.0.0.1:0", "KV_METRICS_ADDR=127.0.0.1:0",
		"KV_BACKENDS=http://"+strings.Join(c.addresses, ",http://"))
	c.gateways[i], c.urls[i] = command, "http://"+log.address(c.t)
	c.metrics[i] = "http://" + log.addressOf(c.t, "metrics are served") + "/metrics"
}

// metric returns the value of a series of a gateway, 0 if there is none.
func (c *cluster) metric(t *testing.T, gateway int, series string) float64 {
	t.Helper()
	_, text := get(t, c.metrics[gateway])
	_, rest, _ := strings.Cut(text, "\n"+series+" ")
	number, _, _ := strings.Cut(rest, "\n")
	value, _ := strconv.ParseFloat(number, 64)
	return value
}

// sent returns how many requests of a kind the gateway has sent to each backend.
func (c *cluster) sent(t *testing.T, gateway int, kind string) (counts [3]int) {
	t.Helper()
	for i, address := range c.addresses {
		series := fmt.Sprintf(`kv_gateway_backend_requests_total{backend=%q,kind=%q}`, address, kind)
		counts[i] = int(c.metric(t, gateway, series))
	}
	return counts
}

// write writes n values through both gateways in turn, and reads each at once through the other.
func (c *cluster) write(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		if status, body := ask(t, http.MethodPut, c.urls[i%2]+"/put/k", fmt.Sprintf(`{"value":%d}`, i)); status != http.StatusOK {
			t.Fatalf("write: %d %s", status, body)
		}
		if status, body := get(t, c.urls[1-i%2]+"/get/k"); status != http.StatusOK || !strings.Contains(body, fmt.Sprintf(`"value":%d,`, i)) {
			t.Fatalf("after %d: %d %s", i, status, body)
		}
	}
}

// states returns the status of /health, and of each backend there.
func (c *cluster) states(t *testing.T, gateway int) string {
	t.Helper()
	status, body := get(t, c.urls[gateway]+"/health")
	var said struct{ Backends []struct{ Status string } }
	if err := json.Unmarshal([]byte(body), &said); err != nil {
		t.Fatal(err)
	}
	states := strconv.Itoa(status)
	for _, b := range said.Backends {
		states += " " + b.Status
	}
	return states
}

func (c *cluster) await(t *testing.T, want string) {
	t.Helper()
	for i := range c.gateways {
		got := ""
		defer func() {
			if t.Failed() {
				t.Logf("/health: %s, want %s", got, want)
			}
		}()
		eventually(t, "the state of all", func() bool { got = c.states(t, i); return got == want })
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// Two gateways before three backends of one store: where requests go, and what is answered while
// a backend, and then the database, is gone.
func TestSharedStore(t *testing.T) {
	server := postgrestest.Server(t, nil)
	c := newCluster(t, server.URL("postgres"))
	c.await(t, "200 ok ok ok")

	c.write(t, 60)
	for i := range c.gateways {
		if reads, writes := c.sent(t, i, "read"), c.sent(t, i, "write"); reads != [3]int{10, 10, 10} || writes != [3]int{30, 0, 0} {
			t.Errorf("gateway %d: %v reads, %v writes", i, reads, writes)
		}
	}

	t.Run("the first backend is killed", func(t *testing.T) {
		_ = c.backends[0].Process.Kill()
		_ = c.backends[0].Wait() // it was killed
		c.write(t, 20)
		c.await(t, "200 failed ok ok")
		for i := range c.gateways {
			if n := c.metric(t, i, "kv_gateway_writes_diverted_total"); n != 10 {
				t.Errorf("gateway %d: %v writes went to another backend", i, n)
			}
		}
		c.startBackend(0)
		c.await(t, "200 ok ok ok")
		eventually(t, "writes go to the first again", func() bool {
			before := [2][3]int{c.sent(t, 0, "write"), c.sent(t, 1, "write")}
			c.write(t, 2)
			return c.sent(t, 0, "write")[0] > before[0][0] && c.sent(t, 1, "write")[0] > before[1][0]
		})
	})

	t.Run("the database is killed", func(t *testing.T) {
		c.write(t, 20) // and every backend reads the key
		server.Kill()
		_ = c.gateways[1].Process.Kill()
		_ = c.gateways[1].Wait() // it was killed
		c.startGateway(1)        // one that starts now knows the backends too
		c.await(t, "503 failed failed failed")
		for i := range 12 {
			url := c.urls[i%2] + "/get/k"
			if status, body := ask(t, http.MethodGet, url, "", "Cache-Control", "max-age=3600"); status != http.StatusOK || !strings.Contains(body, `"source":"cache"`) {
				t.Errorf("max-age: %d %s", status, body)
			}
			if status, body := get(t, url); status != http.StatusServiceUnavailable {
				t.Errorf("fresh: %d %s", status, body)
			}
		}
		restarted, err := server.Restart(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.t.Cleanup(restarted.Kill)
		c.await(t, "200 ok ok ok")
		eventually(t, "writes are made again", func() bool {
			status, _ := ask(t, http.MethodPut, c.urls[0]+"/put/k", `{"value":0}`)
			return status == http.StatusOK
		})
		c.write(t, 4)
	})
}
