package traefik_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestSoak uses every route for the duration SOAK (15s) with SOAK_CLIENTS clients (8), and checks
// every answer and every event. It prints a line each minute. The resources of each process and
// the database on disk must not grow: see judge.
func TestSoak(t *testing.T) {
	duration, clients := 15*time.Second, 8
	var err error
	if text := os.Getenv("SOAK"); text != "" {
		if duration, err = time.ParseDuration(text); err != nil || duration < time.Second {
			t.Fatalf("SOAK=%s: it must be a time of at least 1s, such as 1h: %v", text, err)
		}
	}
	if text := os.Getenv("SOAK_CLIENTS"); text != "" {
		if clients, err = strconv.Atoi(text); err != nil || clients < 1 {
			t.Fatalf("SOAK_CLIENTS=%s: it must be a number of at least 1: %v", text, err)
		}
	}
	dir := t.TempDir()
	// 20 versions of each key are kept, so that the database stops growing. Port 0, because two
	// programs cannot serve their metrics at the same address.
	s := newStack(t, "KV_MAX_VERSIONS=20", "KV_METRICS_ADDR=127.0.0.1:0", "KV_DATABASE_URL=sqlite:"+dir+"/kv_store.db")
	run := newSoak(t, s.backendAddress)
	meters := newMeters(t, s, dir)
	for _, p := range s.processes() {
		p.log.keep(1 << 20)
	}
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	begin := time.Now()
	var group sync.WaitGroup
	for n := range clients {
		group.Go(func() {
			c := newSoakClient(run, n)
			for ctx.Err() == nil && !t.Failed() {
				c.round()
			}
			c.end()
		})
	}
	run.measure(ctx, meters, begin, max(duration/600, 100*time.Millisecond))
	group.Wait()
	run.transport.CloseIdleConnections()
	if !t.Failed() {
		run.judge(meters, duration)
	}
	run.printVerbs(time.Since(begin))
}

// A soak is shared by its clients.
type soak struct {
	t         *testing.T
	backend   string // its address
	transport *http.Transport

	mu    sync.Mutex     // guards verbs
	verbs map[string]int // checked answers by verb
}

func newSoak(t *testing.T, backend string) *soak {
	t.Helper()
	s := &soak{t: t, backend: backend, verbs: map[string]int{}, transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	t.Cleanup(s.transport.CloseIdleConnections)
	return s
}

func (s *soak) count(verb string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verbs[verb]++
}

func (s *soak) total() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, count := range s.verbs {
		n += count
	}
	return n
}

// recordedOfEachVerb bounds the answers of each verb that are also compared with the OpenAPI
// document. Those of an hour would fill the disk.
const recordedOfEachVerb = 500

// ask sends a request over a keep-alive connection, and fails the test if the answer has another
// status, or no request id.
func (s *soak) ask(status int, method, target string, header http.Header, body string) response {
	return s.askAt(webAddress, status, method, target, header, body)
}

func (s *soak) askAt(address string, status int, method, target string, header http.Header, body string) response {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := s.exchange(ctx, address, method, target, header, body)
	if err != nil || answer.status != status || answer.header.Get("X-Request-Id") == "" {
		s.t.Errorf("%s %s: %v, %d %v %.300s, want %d", method, target, err, answer.status, answer.header, answer.body, status)
		return answer
	}
	if answer.body != "" && status >= http.StatusBadRequest && answer.header.Get("Content-Type") != "application/problem+json" {
		s.t.Errorf("%s %s: %d is not a problem document: %v %.300s", method, target, status, answer.header, answer.body)
	}
	verb, _, _ := strings.Cut(strings.TrimPrefix(target, "/"), "/")
	verb, _, _ = strings.Cut(verb, "?")
	verb = method + " " + verb
	s.count(verb)
	s.mu.Lock()
	recorded := address == webAddress && s.verbs[verb] <= recordedOfEachVerb
	s.mu.Unlock()
	if recorded {
		record(method, target, answer)
	}
	return answer
}

func (s *soak) exchange(ctx context.Context, address, method, target string, header http.Header, body string) (response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+address+target, strings.NewReader(body))
	if err != nil {
		return response{}, err
	}
	if header != nil {
		r.Header = header.Clone()
	}
	answer, err := s.transport.RoundTrip(r)
	if err != nil {
		return response{}, err
	}
	return received(answer)
}

// measure takes samples until ctx ends or a client fails, and prints a line each minute.
func (s *soak) measure(ctx context.Context, meters *meters, begin time.Time, every time.Duration) {
	sampling, minute := time.NewTicker(every), time.NewTicker(time.Minute)
	defer sampling.Stop()
	defer minute.Stop()
	meters.printHead()
	for !s.t.Failed() {
		select {
		case <-ctx.Done():
			return
		case <-sampling.C:
			meters.take(s.t)
		case <-minute.C:
			meters.printLine(time.Since(begin), s.total())
		}
	}
}

func (s *soak) printVerbs(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	fmt.Println("\nanswers and events, each checked:")
	for _, verb := range slices.Sorted(maps.Keys(s.verbs)) {
		fmt.Printf("  %-22s %10d\n", verb, s.verbs[verb])
		total += s.verbs[verb]
	}
	fmt.Printf("  %-22s %10d in %s\n", "all", total, took.Round(time.Second))
}
