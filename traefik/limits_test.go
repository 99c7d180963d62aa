package traefik_test

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// The limit of streams applies to a client whatever it claims to be, and each 429 says when to
// try again.
func TestLimitsOfOneClient(t *testing.T) {
	newStack(t, "KV_MAX_WATCHERS_PER_CLIENT=2", "KV_MAX_REQUESTS_PER_CLIENT=3")
	first, second := watch(t, webAddress, "", ""), watch(t, webAddress, "", "")
	forged := http.Header{"X-Forwarded-For": {"192.0.2.1"}}
	for _, header := range []http.Header{nil, forged} {
		answer := request(t, webAddress, http.MethodGet, "/watch", header, "")
		p := answer.wantProblem(t, http.StatusTooManyRequests)
		if p.Code != "too_many_watchers" || !strings.Contains(p.Detail, "KV_MAX_WATCHERS_PER_CLIENT") || answer.header.Get("Retry-After") == "" {
			t.Errorf("%+v %v", p, answer.header)
		}
	}
	get(t, "/cache/stats").wantStatus(t, http.StatusOK) // the third
	first.close()
	second.close()
	eventually(t, "there is room again", func() error {
		f, err := openFeed(t, webAddress, "", "")
		if err == nil && f.status != http.StatusOK {
			err = fmt.Errorf("status %d", f.status)
		}
		return err
	})
}

// A client that exceeds the rate limit is told when to try again, whatever it claims to be.
func TestRateLimitTellsWhen(t *testing.T) {
	newStack(t, "KV_RATE_LIMIT=1", "KV_RATE_BURST=5")
	eventually(t, "a client over its rate gets 429", func() error {
		answer := request(t, webAddress, http.MethodGet, "/cache/stats", http.Header{"X-Forwarded-For": {rand.Text()}}, "")
		if answer.status != http.StatusTooManyRequests || answer.header.Get("Retry-After") == "" {
			return fmt.Errorf("status %d, Retry-After %q", answer.status, answer.header.Get("Retry-After"))
		}
		if p := answer.wantProblem(t, http.StatusTooManyRequests); p.Code != "too_many_requests" || !strings.Contains(p.Detail, "KV_RATE_LIMIT") {
			t.Errorf("%+v", p)
		}
		return nil
	})
}

// A client that sends a large body before it reads gets the refusal of the gateway (413) or of
// the backend (415) through all hops.
func TestRefusalReachesAClientThatSendsFirst(t *testing.T) {
	newStack(t)
	const size = 10 << 20
	body := strings.Repeat("x", size)
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", size, body)
	small := strings.Repeat("x", 1<<20)
	for name, c := range map[string]struct {
		headers, body string
		status        int
	}{
		"known length": {fmt.Sprintf("Content-Length: %d", size), body, http.StatusRequestEntityTooLarge},
		"chunked":      {"Transfer-Encoding: chunked", chunked, http.StatusRequestEntityTooLarge},
		"coded":        {fmt.Sprintf("Content-Encoding: gzip\r\nContent-Length: %d", len(small)), small, http.StatusUnsupportedMediaType},
		"coded chunks": {"Content-Encoding: gzip\r\nTransfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(small), small), http.StatusUnsupportedMediaType},
	} {
		t.Run(name, func(t *testing.T) {
			for range 8 {
				conn, err := net.Dial("tcp", webAddress)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() })
				fmt.Fprintf(conn, "PUT /put/k HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\n%s\r\n\r\n", c.headers)
				if _, err := io.WriteString(conn, c.body); err != nil {
					t.Fatalf("the client is not heard to the end: %v", err)
				}
				answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				_ = answer.Body.Close()
				if answer.StatusCode != c.status {
					t.Error(answer.Status)
				}
			}
		})
	}
}
