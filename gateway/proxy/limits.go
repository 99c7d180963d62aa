package proxy

import (
	"bytes"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"kvstore/gateway/wire"
	"kvstore/internal/problem"
)

const (
	// turnedAway is how many clients too many are told so at once; beyond it they are
	// only closed.
	turnedAway = 64
	// turnAwayTime is how long such a client may take to send its request.
	turnAwayTime = time.Second
	// otherFiles is how many open files there may be beside the connections.
	otherFiles = 128
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

	mu     sync.Mutex // guards counts
	counts map[netip.Addr]*clientCount
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

// admit counts a request of client that came at now, and reports whether its rate
// allows it.
func (s *clients) admit(client netip.Addr, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := s.countLocked(client)
	if count.clock.Before(now) {
		count.clock = now
	}
	if count.clock.Sub(now) > s.lead {
		return false
	}
	count.clock = count.clock.Add(s.pace)
	return true
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
	}
}

// overRate counts the request, and reports whether its client sends more than its rate
// allows.
func (c *conn) overRate() bool {
	return c.p.clients.pace > 0 && !c.p.clients.admit(c.client(), c.began)
}

func (c *conn) refuseOverRate() bool {
	return c.refuseClient("a client sends too much", problem.New(http.StatusTooManyRequests, "too_many_requests", fmt.Sprintf(
		"Your address sends more than %d requests per second, which is the limit for each client (KV_RATE_LIMIT); nothing was done", c.p.clients.rateLimit)))
}

// refuseClient answers a request that is one too many of its client.
func (c *conn) refuseClient(message string, refused *problem.Problem) bool {
	c.p.logger.WarnContext(c.context(), message, "client", c.client().String(), "code", refused.Code)
	c.p.cfg.Requests.Refused()
	return c.answerProblem(refused)
}

// counted answers the request with serve unless its client has too much under way.
func (c *conn) counted(serve func() bool) bool {
	client, watch := c.client(), c.stream
	if refused := c.p.clients.enter(client, watch); refused != nil {
		return c.refuseClient("a client has too much under way", refused)
	}
	defer c.p.clients.leave(client, watch)
	return serve()
}

// client returns who sends the request: whom the hop in front names last in
// X-Forwarded-For, if that hop is on this machine or in a private network, as
// Traefik is, and else the peer itself. What stands further in front in that header
// anybody may have written.
func (c *conn) client() netip.Addr {
	if !c.who.IsValid() {
		c.who = c.findClient()
	}
	return c.who
}

func (c *conn) findClient() netip.Addr {
	peer, err := netip.ParseAddr(c.ip)
	if err != nil {
		return netip.Addr{} // no TCP: all are one
	}
	peer = peer.WithZone("").Unmap()
	if !peer.IsLoopback() && !peer.IsPrivate() && !peer.IsLinkLocalUnicast() {
		return network(peer)
	}
	for i := len(c.req.Fields) - 1; i >= 0; i-- {
		if c.req.Fields[i].Kind != wire.ForwardedFor {
			continue
		}
		last := c.req.Fields[i].Value
		last = bytes.TrimSpace(last[bytes.LastIndexByte(last, ',')+1:])
		if named, err := netip.ParseAddr(string(last)); err == nil {
			return network(named.WithZone("").Unmap())
		}
		break
	}
	return network(peer)
}

func network(a netip.Addr) netip.Addr {
	if a.Is6() {
		if prefix, err := a.Prefix(64); err == nil {
			return prefix.Addr()
		}
	}
	return a
}

// connectionLimit is how many clients' connections there may be: as many as the
// settings say, and as there are files for. Each may need one more to a backend.
func (p *Proxy) connectionLimit() int {
	var files syscall.Rlimit
	// The Go runtime has raised the soft limit to the hard one.
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur > math.MaxInt32 {
		return p.cfg.MaxConnections
	}
	possible := max((int(files.Cur)-otherFiles)/2, 1)
	if possible >= p.cfg.MaxConnections {
		return p.cfg.MaxConnections
	}
	p.logger.Info("fewer connections than KV_MAX_CONNECTIONS, for want of open files (ulimit -n)",
		"connections", possible, "KV_MAX_CONNECTIONS", p.cfg.MaxConnections, "files", files.Cur)
	return possible
}

// turnAway answers the request of a client for whom there is no connection left.
func (p *Proxy) turnAway(client net.Conn) {
	select {
	case p.refusing <- struct{}{}:
	default:
		p.cfg.Requests.Refused()
		client.Close()
		return
	}
	c := newConn(p, client)
	c.surplus = true
	p.start(c, func() { <-p.refusing })
}

// refuseSurplus answers whatever the client asks, and ends the connection.
func (c *conn) refuseSurplus() bool {
	c.p.cfg.Requests.Refused()
	c.req.KeepAlive = false
	c.linger = true
	detail := fmt.Sprintf("The gateway has as many connections as it may have, %d (KV_MAX_CONNECTIONS); nothing was done", c.p.limit)
	return c.answerUnavailable("too_many_connections", detail)
}
