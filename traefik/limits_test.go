package traefik_test

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// A client has so many streams and no more, whoever it says that it is; each 429 tells
// when to try again.
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

// Who sends more than the rate limit allows is told when to try again, whoever it says
// that it is.
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
