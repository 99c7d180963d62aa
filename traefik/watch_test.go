package traefik_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// A feed is a stream of GET /watch that is being read.
type feed struct {
	status int
	header http.Header
	lines  *bufio.Reader
	close  context.CancelFunc
	last   string // the id of the last complete event, or of a block with only an id
}

// An event is one block with data.
type event struct{ id, name, data string }

// openFeed opens a stream over a new connection. The end of the test closes it.
func openFeed(t *testing.T, address, query, last string) (*feed, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/watch"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	return &feed{status: answer.StatusCode, header: answer.Header, lines: bufio.NewReader(answer.Body), close: cancel}, nil
}

// watch returns once the stream has begun.
func watch(t *testing.T, address, query, last string) *feed {
	t.Helper()
	f, err := openFeed(t, address, query, last)
	if err != nil {
		t.Fatal(err)
	}
	if f.status != http.StatusOK {
		t.Fatalf("status %d", f.status)
	}
	first, err := f.lines.Peek(len(": watching"))
	if err != nil || string(first) != ": watching" {
		t.Fatalf("the stream begins with %q, %v", first, err)
	}
	return f
}

var errHeartbeat = errors.New("a heartbeat came first")

// next returns the next event. A heartbeat before it is an error: the event took 15 s.
func (f *feed) next() (event, error) {
	var e event
	for {
		line, err := f.lines.ReadString('\n')
		if err != nil {
			return event{}, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case strings.HasPrefix(line, ": heartbeat"):
			return event{}, errHeartbeat
		case name == "id":
			e.id = value
		case name == "event":
			e.name = value
		case name == "data":
			e.data += value
		case line == "\n" && e.id != "":
			f.last = e.id
			if e.data != "" {
				return e, nil
			}
		}
	}
}

// wantPuts fails the test unless the next events are those puts.
func (f *feed) wantPuts(t *testing.T, key string, revisions ...int) {
	t.Helper()
	for _, revision := range revisions {
		e, err := f.next()
		if err != nil {
			t.Fatalf("before revision %d: %v", revision, err)
		}
		var data struct {
			Key       string
			Revision  int
			Operation string
		}
		if err := json.Unmarshal([]byte(e.data), &data); err != nil {
			t.Fatalf("%v in %q", err, e.data)
		}
		if e.id != fmt.Sprint(revision) || e.name != "put" || data.Revision != revision || data.Key != key || data.Operation != "put" {
			t.Fatalf("%+v, want the put of %s at revision %d", e, key, revision)
		}
	}
}

// Each event arrives at every hop before anything else is sent, and a stream can be resumed.
func TestWatch(t *testing.T) {
	s := newStack(t)
	var revision int
	for hop, address := range s.addresses() {
		t.Run(hop, func(t *testing.T) {
			first := revision + 1
			f, other := watch(t, address, "?prefix=k", ""), watch(t, address, "?prefix=other", "")
			for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store"} {
				if got := f.header.Get(name); got != want {
					t.Errorf("%s: %q", name, got)
				}
			}
			for range 10 {
				revision = decode[putAnswer](t, put(t, "k", `"v"`)).Revision
				f.wantPuts(t, "k", revision)
			}
			f.close()
			var all []int
			for r := first; r <= revision; r++ {
				all = append(all, r)
			}
			watch(t, address, "?prefix=k", fmt.Sprint(first+4)).wantPuts(t, "k", all[5:]...)
			watch(t, address, fmt.Sprintf("?since=%d", first-1), "").wantPuts(t, "k", all...)
			revision = decode[putAnswer](t, put(t, "other", `"v"`)).Revision
			other.wantPuts(t, "other", revision)
			answer := request(t, address, http.MethodHead, "/watch?since=0", nil, "").wantStatus(t, http.StatusOK)
			if answer.body != "" || answer.header.Get("Content-Type") != "text/event-stream" {
				t.Errorf("HEAD: %q, %v", answer.body, answer.header)
			}
			if p := request(t, address, http.MethodGet, "/watch?since=1000000", nil, "").wantProblem(t, http.StatusUnprocessableEntity); p.Code != "invalid_since" {
				t.Errorf("code %q", p.Code)
			}
		})
	}
}

// The maximum number of watchers get each event. After they have gone away, there is room for as
// many again.
func TestManyWatchers(t *testing.T) {
	const watchers, events = 200, 5
	s := newStack(t, fmt.Sprintf("KV_MAX_WATCHERS=%d", watchers))
	for round := range 2 {
		feeds := make([]*feed, watchers)
		for i := range feeds {
			eventually(t, "there is room for a watcher", func() error {
				f, err := openFeed(t, webAddress, "", "")
				if err == nil && f.status != http.StatusOK {
					f.close()
					err = fmt.Errorf("status %d", f.status)
				}
				feeds[i] = f
				return err
			})
		}
		p := get(t, "/watch").wantProblem(t, http.StatusServiceUnavailable)
		if p.Code != "too_many_watchers" || !strings.Contains(p.Detail, "KV_MAX_WATCHERS") {
			t.Errorf("one more: %+v", p)
		}
		var revisions []int
		for range events {
			revisions = append(revisions, decode[putAnswer](t, put(t, "k", `"v"`)).Revision)
		}
		var reading sync.WaitGroup
		for i, f := range feeds {
			reading.Go(func() {
				for _, revision := range revisions {
					if e, err := f.next(); err != nil || e.id != fmt.Sprint(revision) {
						t.Errorf("round %d, watcher %d: %+v, %v, want revision %d", round, i, e, err, revision)
						return
					}
				}
			})
		}
		reading.Wait()
		for _, f := range feeds {
			f.close()
		}
	}
	if lines := s.backend.log.lines("a watch has failed"); len(lines) > 0 {
		t.Errorf("the backend logs %s", lines[0])
	}
}

// Each program stops in spite of streams with exit code 0, which means that the drain did not time
// out. Events are received exactly once: the backend sends all of them before it ends a stream,
// and a client gets those that were lost in another program with its next stream.
func TestStreamsEndWithEachPart(t *testing.T) {
	s := newStack(t)
	last := ""
	var revision int
	resume := func(t *testing.T) *feed {
		t.Helper()
		f := watch(t, webAddress, "", last)
		if last != "" && last != fmt.Sprint(revision) {
			f.wantPuts(t, "k", revision)
		}
		return f
	}
	for _, p := range []*process{s.backend, s.gateway, s.traefik} {
		t.Run(p.name, func(t *testing.T) {
			f := resume(t)
			for range 3 {
				revision = decode[putAnswer](t, put(t, "k", `"v"`).wantStatus(t, http.StatusOK)).Revision
			}
			f.wantPuts(t, "k", revision-2, revision-1)
			code := p.stop(t)
			defer p.start(t) // the next subtest needs it, even if this one has failed
			if code != 0 {
				t.Errorf("exit code %d", code)
			}
			e, err := f.next()
			if err == nil {
				if e.id != fmt.Sprint(revision) {
					t.Errorf("%+v, want revision %d", e, revision)
				}
				_, err = f.next()
			}
			switch {
			case err == nil, strings.Contains(err.Error(), "heartbeat"):
				t.Errorf("the stream did not end: %v", err)
			case p == s.backend && (!errors.Is(err, io.EOF) || f.last != fmt.Sprint(revision)):
				t.Errorf("the stream ended with %v after revision %s, want EOF after %d", err, f.last, revision)
			}
			last = f.last
		})
		eventually(t, "the service is back", func() error { return tryGet("/get/k") })
	}
	f := resume(t)
	revision = decode[putAnswer](t, put(t, "k", `"v"`).wantStatus(t, http.StatusOK)).Revision
	f.wantPuts(t, "k", revision)
}
