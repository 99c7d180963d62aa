package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// seen holds what a client of /watch has received from a store that is killed repeatedly.
type seen struct {
	prefix string
	last   string // the id to resume from
	events []fedEvent
	// faulty allows 503, which the test causes.
	faulty bool
}

type fedEvent struct {
	Key      string
	Version  int64
	Revision int64
}

// follow reads the stream until it ends or reaches the revision until.
func (s *seen) follow(ctx context.Context, t *testing.T, p site, until int64) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/watch?since=0&prefix="+s.prefix, http.NoBody)
	if err != nil {
		t.Error(err)
		return
	}
	request.Header.Set("Last-Event-ID", s.last)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return
	}
	defer response.Body.Close()
	if s.faulty && response.StatusCode == http.StatusServiceUnavailable {
		return
	}
	if response.StatusCode != http.StatusOK {
		t.Errorf("resumed at %q: status %d", s.last, response.StatusCode)
		return
	}
	lines := bufio.NewReader(response.Body)
	for id, data := "", ""; ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return // without the incomplete event
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case name == "id":
			id = value
		case name == "data":
			data = value
		case line == "\n" && data != "":
			var e fedEvent
			if err := json.Unmarshal([]byte(data), &e); err != nil || id != strconv.FormatInt(e.Revision, 10) {
				t.Errorf("event %s: %s, %v", id, data, err)
			}
			s.events, s.last, data = append(s.events, e), id, ""
			if e.Revision >= until {
				return
			}
		}
	}
}

// TestKilledStreams kills the program during writes while clients watch. Each client resumes
// after its last event, and must see every answered write exactly once and in order, with
// no gap in the versions of a key.
func TestKilledStreams(t *testing.T) {
	const kills, writers, perRound = 3, 4, 100
	env := environment(filepath.Join(t.TempDir(), "kv.db"), "2")
	all, some := &seen{last: "0"}, &seen{prefix: "k1", last: "0"}
	var mu sync.Mutex
	answered := map[int64]fedEvent{}
	for range kills {
		p := spawn(t, env)
		var round sync.WaitGroup
		var writes atomic.Int64
		for worker := range writers {
			round.Go(func() {
				for i := 0; ; i++ {
					var written fedEvent
					status, body, err := p.exchange(t.Context(), "PUT", fmt.Sprintf("/put/k%d", (worker+i)%5), `{"value":1}`)
					if err != nil {
						return
					}
					if err := json.Unmarshal(body, &written); err != nil || status != http.StatusOK {
						t.Errorf("%d %s", status, body)
						return
					}
					mu.Lock()
					answered[written.Revision] = written
					mu.Unlock()
					writes.Add(1)
				}
			})
		}
		for _, s := range []*seen{all, some} {
			round.Go(func() { s.follow(t.Context(), t, p.site, 1<<62) })
		}
		for writes.Load() < perRound && !t.Failed() {
			if t.Context().Err() != nil {
				t.Fatal("the writes are not made")
			}
		}
		p.kill(t)
		round.Wait()
	}
	p := spawn(t, env)
	_, body, err := p.exchange(t.Context(), "PUT", "/put/k1", `{"value":1}`)
	var end fedEvent
	if err != nil || json.Unmarshal(body, &end) != nil {
		t.Fatalf("%s, %v", body, err)
	}
	for _, s := range []*seen{all, some} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		s.follow(ctx, t, p.site, end.Revision)
		cancel()
		versions := map[string]int64{}
		for i, e := range s.events {
			if versions[e.Key]++; e.Version != versions[e.Key] || s == all && e.Revision != int64(i+1) {
				t.Fatalf("event %d of %q is %+v", i, s.prefix, e)
			}
			if want, known := answered[e.Revision]; known && want != e {
				t.Errorf("the event %+v, the answer %+v", e, want)
			}
		}
	}
	if n := len(all.events); int64(n) != end.Revision || n < kills*perRound {
		t.Errorf("%d events, the last write has revision %d", n, end.Revision)
	}
	p.check(t)
}

// TestStopEndsStreams checks that the program stops even if a client watches, that all
// events are complete, and that the stream can be resumed after a restart.
func TestStopEndsStreams(t *testing.T) {
	env := map[string]string{"KV_DATABASE_URL": "sqlite:" + filepath.Join(t.TempDir(), "kv.db"), "KV_MAX_WATCHERS": "1"}
	first := boot(t, env)
	response, err := http.Get(first.url + "/watch")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if status, body := first.request(t, "GET", "/watch", ""); status != 503 || !strings.Contains(body, "too_many_watchers") {
		t.Errorf("a second watcher of one: %d %s", status, body)
	}
	for range 2 {
		if status, body := first.request(t, "PUT", "/put/k", `{"value":1}`); status != 200 {
			t.Fatal(status, body)
		}
	}
	first.stop()
	if err := <-first.result; err != nil { // a drain that took too long would be an error
		t.Errorf("the stopped program returned %v", err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil || !strings.Contains(string(text), "\nid: 1\n") || !strings.HasSuffix(string(text), "}\n\n") || strings.Count(string(text), "event: put\n") != 2 {
		t.Errorf("the stream was %q, %v", text, err)
	}
	second := boot(t, env)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, second.url+"/watch", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Last-Event-ID", "1")
	if response, err = http.DefaultClient.Do(request); err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	second.stop()
	if err := <-second.result; err != nil {
		t.Errorf("the stopped program returned %v", err)
	}
	if _, err := io.ReadAll(response.Body); err != nil {
		t.Errorf("the stream ends with %v", err)
	}
}
