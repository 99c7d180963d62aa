package traefik_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// TestSoak sends every verb for as long as SOAK says (15s) and checks every answer.
// Memory, threads and open files of each process must not grow: their median in the
// last third of the time is compared with that in the first.
func TestSoak(t *testing.T) {
	duration := 15 * time.Second
	if text := os.Getenv("SOAK"); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatalf("SOAK: %v", err)
		}
	}
	s := newStack(t, "KV_MAX_VERSIONS=20") // so that the database stays as large as it is
	soak := &soak{t: t, verbs: map[string]int{}}
	end := time.Now().Add(duration)
	var clients sync.WaitGroup
	for n := range 8 {
		clients.Go(func() {
			for i := 0; time.Now().Before(end) && !t.Failed(); i++ {
				soak.round(fmt.Sprintf("soak/%d/%d", n, i%50))
			}
		})
	}
	samples := map[string][]sample{}
	ticker := time.NewTicker(max(duration/300, 100*time.Millisecond))
	defer ticker.Stop()
	for time.Now().Before(end) && !t.Failed() {
		<-ticker.C
		for _, p := range s.processes() {
			samples[p.name] = append(samples[p.name], takeSample(t, p))
		}
	}
	clients.Wait()
	soak.report(samples)
}

type soak struct {
	t *testing.T

	mu    sync.Mutex // guards verbs
	verbs map[string]int
}

// ask sends a request and fails the test when it is not answered with that status.
func (s *soak) ask(status int, method, target string, header http.Header, body string) response {
	answer, err := tryRequest(webAddress, method, target, header, body)
	verb, _, _ := strings.Cut(strings.TrimPrefix(target, "/"), "/")
	verb, _, _ = strings.Cut(verb, "?")
	if err != nil || answer.status != status {
		s.t.Errorf("%s %s: %v, %d %.300s, want %d", method, target, err, answer.status, answer.body, status)
	}
	s.mu.Lock()
	s.verbs[verb]++
	s.mu.Unlock()
	return answer
}

// round does everything that can be done with a key which nobody else uses.
func (s *soak) round(key string) {
	json1 := http.Header{"Content-Type": {"application/json"}}
	var put putAnswer
	s.decode(s.ask(http.StatusOK, http.MethodPut, "/put/"+key, json1, `{"value":{"n":1,"text":"`+strings.Repeat("x", 500)+`"}}`), &put)
	var got getAnswer
	s.decode(s.ask(http.StatusOK, http.MethodGet, "/get/"+key, nil, ""), &got)
	if got.Version != put.Version || !strings.HasPrefix(string(got.Value), `{"n":1,`) {
		s.t.Errorf("%s: read version %d, written %d: %.60s", key, got.Version, put.Version, got.Value)
	}
	s.ask(http.StatusOK, http.MethodPatch, "/patch/"+key, http.Header{"Content-Type": {"application/merge-patch+json"}}, `{"n":2}`)
	s.decode(s.ask(http.StatusOK, http.MethodGet, "/get/"+key, nil, ""), &got)
	if got.Version != put.Version+1 || !strings.HasPrefix(string(got.Value), `{"n":2,`) {
		s.t.Errorf("%s: after the patch version %d: %.60s", key, got.Version, got.Value)
	}
	s.ask(http.StatusOK, http.MethodGet, fmt.Sprintf("/diff/%s?from=%d&to=%d", key, put.Version, put.Version+1), nil, "")
	s.ask(http.StatusOK, http.MethodDelete, "/delete/"+key, nil, "")
	s.ask(http.StatusNotFound, http.MethodGet, "/get/"+key, nil, "")
	s.ask(http.StatusOK, http.MethodPost, fmt.Sprintf("/revert/%s?version=%d", key, put.Version), nil, "")
	s.ask(http.StatusOK, http.MethodGet, "/history/"+key+"?limit=5", nil, "")
	s.ask(http.StatusOK, http.MethodGet, "/keys?prefix=soak/&limit=10", nil, "")
	s.ask(http.StatusPreconditionFailed, http.MethodPut, "/put/"+key, http.Header{"If-None-Match": {"*"}}, `{"value":1}`)
	s.ask(http.StatusOK, http.MethodPost, "/batch", json1,
		fmt.Sprintf(`{"operations":[{"op":"put","key":%q,"value":3},{"op":"get","key":%q}]}`, key, key))
	s.ask(http.StatusOK, http.MethodGet, "/cache/stats", nil, "")
	s.ask(http.StatusOK, http.MethodGet, "/db/stats", nil, "")
	s.watchOnce(key)
}

// watchOnce opens a stream and ends it with its first event.
func (s *soak) watchOnce(key string) {
	f, err := openFeed(s.t, webAddress, "?since=0&prefix="+key, "")
	if err != nil {
		s.t.Error(err)
		return
	}
	defer f.close()
	if _, err := f.next(); err != nil && !strings.Contains(err.Error(), "heartbeat") {
		s.t.Errorf("watch: %v", err)
	}
	s.mu.Lock()
	s.verbs["watch"]++
	s.mu.Unlock()
}

func (s *soak) decode(answer response, to any) {
	if err := json.Unmarshal([]byte(answer.body), to); err != nil {
		s.t.Errorf("%v in %.200s", err, answer.body)
	}
}

// A sample is what a process holds.
type sample struct{ resident, threads, files int }

func takeSample(t *testing.T, p *process) sample {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return sample{p.residentBytes(t) >> 10, len(threads), len(files)}
}

// report prints the table and fails the test for what has grown. The noise that is
// allowed is what a garbage collector and pools of connections move by themselves.
func (s *soak) report(samples map[string][]sample) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nprocess\tof\tfirst third\tlast third\tmost\t")
	for _, name := range []string{"backend", "gateway", "traefik"} {
		for _, m := range []struct {
			name  string
			of    func(sample) int
			noise int
		}{
			{"resident KiB", func(s sample) int { return s.resident }, 64 << 10},
			{"threads", func(s sample) int { return s.threads }, 16},
			{"open files", func(s sample) int { return s.files }, 64},
		} {
			var values []int
			for _, one := range samples[name] {
				values = append(values, m.of(one))
			}
			third := len(values) / 3
			if third == 0 {
				s.t.Fatal("no samples")
			}
			first, last := median(values[:third]), median(values[len(values)-third:])
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t\n", name, m.name, first, last, slices.Max(values))
			if last > first+first/5+m.noise {
				s.t.Errorf("%s: %s have grown from %d to %d", name, m.name, first, last)
			}
		}
	}
	_ = w.Flush()
	fmt.Println("requests:", s.verbs)
}

func median(values []int) int {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
