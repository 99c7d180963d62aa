package main_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"kvstore/backend/database/postgres/postgrestest"
)

// long reports whether this is the long form (task faults:cluster), with more of everything.
func long() bool { return os.Getenv("FAULTS") == "long" }

func either[T any](short, longer T) T {
	if long() {
		return longer
	}
	return short
}

// onlyLong is for tests that take minutes.
func onlyLong(t *testing.T) {
	t.Helper()
	if !long() {
		t.Skip("go tool task faults:cluster runs it")
	}
}

// faults are the rows of the table that the long form prints.
var faults []string

// report adds a row: what the test has done, and what came of it.
func report(t *testing.T, format string, values ...any) {
	t.Helper()
	text := fmt.Sprintf(format, values...)
	t.Log(text)
	result := "ok"
	if t.Failed() {
		result = "FAILED"
	}
	faults = append(faults, strings.Join([]string{strings.TrimPrefix(t.Name(), "TestCluster"), result, text}, "\t"))
}

func printFaults() {
	if !long() || len(faults) == 0 {
		return
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\ntest\tresult\twhat happened")
	for _, row := range faults {
		fmt.Fprintln(w, row)
	}
	_ = w.Flush()
}

// A node is a backend or a gateway that keeps its address when it is started again.
type node struct {
	site
	program string
	env     []string
	proxy   *postgrestest.Proxy // of a backend: its way to PostgreSQL
	process *process            // that runs now
}

// A cluster is backends on one PostgreSQL server and gateways in front of them.
type cluster struct {
	backends, gateways []*node
}

// startCluster starts three backends of a program, on a database, and two gateways. The backends have
// proxies on their way to a database of a single host.
func startCluster(t *testing.T, program, database string, settings ...string) *cluster {
	t.Helper()
	gateway, err := gatewayBinary()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{}
	var urls []string
	for range 3 {
		n, through := newNode(t, program, append(environment("", "2"), settings...)), database
		if !strings.Contains(database, ",") {
			n.proxy, through = postgrestest.StartProxy(t, database)
		}
		n.env = append(n.env, "KV_DATABASE_URL="+through, "KV_BACKEND_ADDR="+strings.TrimPrefix(n.url, "http://"))
		c.backends, urls = append(c.backends, n), append(urls, n.url)
		n.start(t)
	}
	for range 2 {
		n := newNode(t, gateway, environment("", "2"))
		n.env = append(n.env, "KV_BACKENDS="+strings.Join(urls, ","), "KV_GATEWAY_ADDR="+strings.TrimPrefix(n.url, "http://"))
		c.gateways = append(c.gateways, n)
		n.start(t)
	}
	return c
}

// backendProgram returns the program as it is.
func backendProgram(t *testing.T) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func newNode(t *testing.T, program string, env []string) *node {
	t.Helper()
	port, err := postgrestest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{site: newSite(), program: program, env: env}
	n.url = "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	return n
}

func (n *node) start(t *testing.T) {
	t.Helper()
	n.process = spawnProgram(t, n.program, n.env)
	n.process.faulty = true
	n.waitReady(t)
}

// waitReady waits until the node can serve.
func (n *node) waitReady(t *testing.T) {
	t.Helper()
	eventually(t, n.url+" is healthy", func() error {
		status, body, err := n.exchange(t.Context(), "GET", "/health", "")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%d %s", status, body)
		}
		return err
	})
}

func eventually(t *testing.T, what string, fails func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := fails()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// sites are where clients may send requests: to gateways, or to backends at once.
func (c *cluster) sites() (all []site) {
	for _, n := range slices.Concat(c.gateways, c.backends) {
		all = append(all, n.site)
	}
	return all
}

func (c *cluster) anywhere() site {
	all := c.sites()
	return all[rand.IntN(len(all))]
}

// A tally counts the answers of clients by their kind, and measures outages.
type tally struct {
	mu      sync.Mutex
	kinds   map[string]int
	written time.Time     // when the last write succeeded
	outage  time.Duration // the longest time in which no write did
	slowest time.Duration // the longest write, if it succeeded or not
}

func newTally() *tally { return &tally{kinds: map[string]int{}, written: time.Now()} }

// note counts an answer, to a write that began then or to a read.
func (c *tally) note(err error, write bool, began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kind := "answered"
	var f *failure
	if errors.As(err, &f) {
		kind = f.Error()
	} else if err != nil {
		kind = "connection broken"
	}
	c.kinds[kind]++
	if !write {
		return
	}
	now := time.Now()
	c.slowest = max(c.slowest, now.Sub(began))
	if err == nil {
		c.outage, c.written = max(c.outage, now.Sub(c.written)), now
	}
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var text []string
	for _, kind := range slices.Sorted(maps.Keys(c.kinds)) {
		text = append(text, fmt.Sprintf("%d %s", c.kinds[kind], kind))
	}
	if c.outage > 0 {
		text = append(text, fmt.Sprintf("at most %d ms without a write", c.outage.Milliseconds()))
	}
	return strings.Join(text, ", ")
}

// clients runs n clients until stop is called, which waits for them. A client that gets no answer waits
// a little before it goes on.
func clients(t *testing.T, n int, request func(ctx context.Context, client, number int) error) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for client := range n {
		running.Go(func() {
			for number := 0; ctx.Err() == nil && !t.Failed(); number++ {
				if request(ctx, client, number) != nil {
					time.Sleep(rand.N(10 * time.Millisecond))
				}
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return stop
}
