package proxy

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"kvstore/internal/problem"
)

// clients count what each client sends and has under way, and say when that is too
// much. A client is an IPv4 address or an IPv6 /64 network. Traefik could do nearly the
// same, but at more cost, without a word in its answer that says why, and without telling
// watches from others; and not everybody comes through it.
type clients struct {
	rateLimit                int
	maxRequests, maxWatchers int
	// pace is how far each request moves a client's clock ahead, and lead how far ahead
	// that may be.
	pace, lead time.Duration

	mu       sync.Mutex // guards counts
	counts   map[netip.Addr]*clientCount
	watchers int // of all clients
}

// clientCount is what one client has under way; requests has the watches too.
type clientCount struct {
	requests, watchers int
	clock              time.Time // what was asked for up to now, at the limit's rate
}

func newClients(cfg Config) *clients {
	s := &clients{
		rateLimit:   cfg.RateLimit,
		maxRequests: cfg.MaxRequestsPerClient,
		maxWatchers: cfg.MaxWatchersPerClient,
		counts:      map[netip.Addr]*clientCount{},
	}
	if cfg.RateLimit > 0 {
		s.pace = time.Second / time.Duration(cfg.RateLimit)
		s.lead = s.pace * time.Duration(cfg.RateBurst-1)
	}
	return s
}

// countLocked returns what is counted of client.
func (s *clients) countLocked(client netip.Addr) *clientCount {
	count := s.counts[client]
	if count == nil {
		count = &clientCount{}
		s.counts[client] = count
	}
	return count
}

// overRate counts a request of client that came at now, and reports whether its client
// sends more than its rate allows.
func (s *clients) overRate(client netip.Addr, now time.Time) bool {
	if s.pace == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	count := s.countLocked(client)
	if count.clock.Before(now) {
		count.clock = now
	}
	if count.clock.Sub(now) > s.lead {
		return true
	}
	count.clock = count.clock.Add(s.pace)
	return false
}

// forget lets go of those who have nothing under way and whose rate is as if they had
// never come.
func (s *clients) forget(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for client, count := range s.counts {
		if count.requests == 0 && !count.clock.After(now) {
			delete(s.counts, client)
		}
	}
}

// enter counts a request of client, or returns the answer to one too many. After nil the
// caller must call leave.
func (s *clients) enter(client netip.Addr, watch bool) *problem.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := s.countLocked(client)
	switch {
	case watch && count.watchers >= s.maxWatchers:
		return problem.New(http.StatusTooManyRequests, "too_many_watchers", fmt.Sprintf(
			"Your address has %d streams of /watch open, which is the limit for each client (KV_MAX_WATCHERS_PER_CLIENT)", s.maxWatchers))
	case count.requests >= s.maxRequests:
		return problem.New(http.StatusTooManyRequests, "too_many_requests", fmt.Sprintf(
			"Your address has %d requests under way, which is the limit for each client (KV_MAX_REQUESTS_PER_CLIENT); nothing was done", s.maxRequests))
	}
	count.requests++
	if watch {
		count.watchers++
		s.watchers++
	}
	return nil
}

func (s *clients) leave(client netip.Addr, watch bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := s.counts[client]
	count.requests--
	if watch {
		count.watchers--
		s.watchers--
	}
}

// watching counts the watches that are under way.
func (s *clients) watching() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watchers
}

// tooFast is the answer to a client that is over its rate.
func (s *clients) tooFast() *problem.Problem {
	return problem.New(http.StatusTooManyRequests, "too_many_requests", fmt.Sprintf(
		"Your address sends more than %d requests per second, which is the limit for each client (KV_RATE_LIMIT); nothing was done", s.rateLimit))
}
