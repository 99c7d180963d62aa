package api_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"kvstore/backend/api"
	"kvstore/backend/database"
	"kvstore/backend/store"
	"kvstore/internal/telemetry"
	"kvstore/internal/telemetry/telemetrytest"
)

// wantOverloaded fails the test unless the answer is that of an overloaded server.
func wantOverloaded(t *testing.T, got answer, option string) {
	t.Helper()
	fields := got.problem(t)
	detail, _ := fields["detail"].(string)
	if got.status != http.StatusServiceUnavailable || fields["code"] != "overloaded" ||
		got.header.Get("Retry-After") != "1" || !strings.Contains(detail, option) {
		t.Errorf("%d %v, Retry-After %q", got.status, fields, got.header.Get("Retry-After"))
	}
}

// stuck makes every write wait until release is called.
func (s *server) stuck(t *testing.T) (release func()) {
	t.Helper()
	hold, goOn := make(chan struct{}), make(chan struct{})
	var holding sync.WaitGroup
	holding.Go(func() {
		_ = s.db.Update(t.Context(), func(*database.Tx) error { close(hold); <-goOn; return errors.New("rolled back") })
	})
	<-hold
	return func() { close(goOn); holding.Wait() }
}

// wait begins a write that is stuck, waits until it is queued, and returns a channel that
// gets its answer.
func (s *server) wait(t *testing.T, method, target, body string) <-chan answer {
	t.Helper()
	waiting := make(chan answer, 1)
	go func() { waiting <- s.do(t, method, target, body) }()
	until(t, "the write waits", func() bool { return s.store.Stats().QueuedWrites == 1 })
	return waiting
}

// partOfPut sends a part of a body and leaves the connection open. It returns once the server
// reads the body, so that the request does not count any more, or has refused it.
func (s *server) partOfPut(t *testing.T, body string, length int) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, fmt.Sprintf("PUT /put/slow HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n%s", length, body)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 100"))); err != nil {
		t.Fatal(err)
	}
}

// until repeats a request until ok, and fails the test after too long.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("not in time: ", what)
		}
	}
}

// TestTooManyRequests tests that requests over the limit are refused, health and watches
// excepted, and that clients that send their bodies slowly do not count.
func TestTooManyRequests(t *testing.T) {
	journal := &telemetrytest.Journal{}
	metrics, err := telemetry.ServeMetrics(t.Context(), "test", "127.0.0.1:0", slog.New(slog.NewTextHandler(journal, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer metrics.Close()
	s := startWith(t, store.Config{}, api.Config{MaxRequests: 1, Metrics: metrics.Requests("kv_http", api.Routes())})
	s.partOfPut(t, `{"value"`, 11)
	if got := s.do(t, "PUT", "/put/k", `{"value":1}`); got.status != http.StatusOK {
		t.Fatalf("beside a slow client: %d %s", got.status, got.body)
	}
	release := s.stuck(t)
	waiting := s.wait(t, "PUT", "/put/k", `{"value":2}`)
	wantOverloaded(t, s.do(t, "GET", "/get/k", ""), "KV_MAX_REQUESTS")
	wantOverloaded(t, s.do(t, "PUT", "/put/k", `{"value":3}`), "KV_MAX_REQUESTS")
	for _, target := range []string{"/health", "/healthz", "/readyz"} {
		if got := s.do(t, "GET", target, ""); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", target, got.status, got.body)
		}
	}
	s.watch(t, "").close()
	release()
	if got := <-waiting; got.status != http.StatusOK {
		t.Errorf("the write that waited: %d %s", got.status, got.body)
	}
	if got := s.do(t, "PUT", "/put/k", `{"value":4}`); got.status != http.StatusOK || !strings.Contains(got.body, `"version":3`) {
		t.Errorf("afterwards: %d %s", got.status, got.body)
	}
	_, address, _ := strings.Cut(journal.String(), "address=")
	address, _, _ = strings.Cut(address, " ")
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || !refused.Match(text) {
		t.Errorf("what was refused is not counted: %v in\n%s", err, text)
	}
}

var refused = regexp.MustCompile(`(?m)^kv_http_requests_refused_total [1-9]`)

// TestRequestsWithUnreadBodiesCount tests that a request counts from its header on, even if
// nobody reads its body.
func TestRequestsWithUnreadBodiesCount(t *testing.T) {
	s := startWith(t, store.Config{}, api.Config{MaxRequests: 1})
	release := s.stuck(t)
	waiting := s.wait(t, "DELETE", "/delete/k", "x")
	for range 16 {
		wantOverloaded(t, s.do(t, "DELETE", "/delete/k", "x"), "KV_MAX_REQUESTS")
		wantOverloaded(t, s.do(t, "GET", "/get/k", "x"), "KV_MAX_REQUESTS")
		wantOverloaded(t, s.do(t, "PUT", "/put/k", `{"value":1}`), "KV_MAX_REQUESTS")
	}
	release()
	if got := <-waiting; got.status != http.StatusNotFound {
		t.Errorf("the one that waited: %d %s", got.status, got.body)
	}
	if got := s.do(t, "GET", "/get/k", "x"); got.status != http.StatusNotFound {
		t.Errorf("afterwards: %d %s", got.status, got.body)
	}
}

func TestTooManyQueuedWrites(t *testing.T) {
	s := startWith(t, store.Config{MaxQueuedWrites: 1}, api.Config{})
	release := s.stuck(t)
	waiting := s.wait(t, "PUT", "/put/k", `{"value":1}`)
	wantOverloaded(t, s.do(t, "PUT", "/put/k", `{"value":2}`), "KV_MAX_QUEUED_WRITES")
	wantOverloaded(t, s.do(t, "DELETE", "/delete/k", ""), "KV_MAX_QUEUED_WRITES")
	release()
	if got := <-waiting; got.status != http.StatusOK {
		t.Errorf("the write that waited: %d %s", got.status, got.body)
	}
}

// TestTooManyBodyBytes tests that large bodies are bounded together, and small ones do not
// count.
func TestTooManyBodyBytes(t *testing.T) {
	s := startWith(t, store.Config{}, api.Config{MaxBodyBytes: 200 << 10})
	large := `{"value":"` + strings.Repeat("x", 180<<10) + `"}`
	var refused answer
	until(t, "a large body is refused", func() bool {
		s.partOfPut(t, large, len(large)+1) // unless it arrived after the last one and was itself refused
		refused = s.do(t, "PUT", "/put/k", large)
		return refused.status != http.StatusOK
	})
	wantOverloaded(t, refused, "KV_MAX_QUEUED_BYTES")
	if got := s.do(t, "PUT", "/put/k", `{"value":1}`); got.status != http.StatusOK {
		t.Errorf("a small one: %d %s", got.status, got.body)
	}
}

// TestRefusalsAreLoggedInSum tests that many refusals make few lines in the log.
func TestRefusalsAreLoggedInSum(t *testing.T) {
	s := startWith(t, store.Config{MaxQueuedWrites: 1}, api.Config{})
	release := s.stuck(t)
	waiting := s.wait(t, "PUT", "/put/k", `{"value":1}`)
	began := time.Now()
	for range 200 {
		s.do(t, "PUT", "/put/k", `{"value":2}`)
	}
	most := int(time.Since(began).Seconds()) + 2
	release()
	<-waiting
	if lines := strings.Count(s.log.String(), "\n"); lines == 0 || lines > most {
		t.Errorf("%d lines, want 1 to %d:\n%.2000s", lines, most, s.log)
	}
}

// TestOrigins tests that a page of another site cannot write through the browser of somebody
// who can reach the service, while our own pages and other clients than browsers can.
func TestOrigins(t *testing.T) {
	s := start(t)
	for _, test := range []struct {
		method, target string
		status         int
		header         []string
	}{
		{"PUT", "/put/k", 200, nil},
		{"POST", "/put/k", 403, []string{"Origin", "https://evil.example"}},
		{"POST", "/put/k", 403, []string{"Origin", "null"}},
		{"POST", "/put/k", 403, []string{"Sec-Fetch-Site", "cross-site"}},
		{"DELETE", "/delete/k", 403, []string{"Sec-Fetch-Site", "same-site"}},
		{"POST", "/put/k", 200, []string{"Sec-Fetch-Site", "same-origin"}},
		{"POST", "/put/k", 200, []string{"Origin", s.URL}},
		{"GET", "/get/k", 200, []string{"Origin", "https://evil.example"}},
	} {
		got := s.do(t, test.method, test.target, `{"value":1}`, test.header...)
		if got.status != test.status {
			t.Errorf("%s %s %v = %d %s, want %d", test.method, test.target, test.header, got.status, got.body, test.status)
		}
		if got.status == 403 && got.problem(t)["code"] != "cross_origin" {
			t.Errorf("%v: %s", test.header, got.body)
		}
	}
}
