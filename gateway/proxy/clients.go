package proxy

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"kvstore/internal/problem"
)

// clients bound what each client sends and has in flight. A client is an IPv4 address or an IPv6
// /64 network. Traefik could bound rate and requests too, but at a higher cost, without an answer
// that says why, and without telling watches from other requests; so it does not.
type clients struct {
	rateLimit                int
	maxRequests, maxWatchers int
	// Each request moves the clock of its client ahead by pace, up to lead ahead of the time.
	pace, lead time.Duration

	mu       sync.Mutex // guards counts
	counts   map[netip.Addr]*clientCount
	watchers int // of all clients
}

// A clientCount is what a client has in flight. Its requests include its watches.
type clientCount struct {
	requests, watchers int
	clock              time.Time
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

// countLocked returns the count of client.
func (s *clients) countLocked(client netip.Addr) *clientCount {
	count := s.counts[client]
	if count == nil {
		count = &clientCount{}
		s.counts[client] = count
	}
	return count
}

// overRate counts a request of client, and reports whether it exceeds the rate.
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

// forget drops clients that have nothing in flight and whose clock is not ahead.
func (s *clients) forget(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for client, count := range s.counts {
		if count.requests == 0 && !count.clock.After(now) {
			delete(s.counts, client)
		}
	}
}

// enter counts a request of client, or refuses it as one too many. If it returns nil, the caller
// must call leave.
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

// watching returns the number of watches in flight.
func (s *clients) watching() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watchers
}

// tooFast is the refusal of a request over the rate.
func (s *clients) tooFast() *problem.Problem {
	return problem.New(http.StatusTooManyRequests, "too_many_requests", fmt.Sprintf(
		"Your address sends more than %d requests per second, which is the limit for each client (KV_RATE_LIMIT); nothing was done", s.rateLimit))
}
