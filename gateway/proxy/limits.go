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

// clients count what each client has under way, and say when that is too much. A
// client is an IPv4 address or an IPv6 /64 network, as in Traefik. Traefik's bound on requests
// under way is wider and cannot tell watches from others; and not everybody comes through it.
type clients struct {
	maxRequests, maxWatchers int

	mu     sync.Mutex // guards counts
	counts map[netip.Addr]*clientCount
}

// clientCount is what one client has under way; requests has the watches too.
type clientCount struct{ requests, watchers int }

func newClients(cfg Config) *clients {
	return &clients{maxRequests: cfg.MaxRequestsPerClient, maxWatchers: cfg.MaxWatchersPerClient, counts: map[netip.Addr]*clientCount{}}
}

// enter counts a request of client, or returns the answer to one too many. Each nil needs a
// call of leave.
func (s *clients) enter(client netip.Addr, watch bool) *problem.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := s.counts[client]
	switch {
	case count == nil:
		count = &clientCount{}
		s.counts[client] = count
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
	if count.requests == 0 {
		delete(s.counts, client)
	}
}

// counted answers the request with serve unless its client has too much under way.
func (c *conn) counted(serve func() bool) bool {
	client, watch := c.client(), c.stream
	if refused := c.p.clients.enter(client, watch); refused != nil {
		c.p.logger.WarnContext(c.context(), "a client has too much under way", "client", client.String(), "code", refused.Code)
		c.p.cfg.Requests.Refused()
		return c.answerProblem(refused)
	}
	defer c.p.clients.leave(client, watch)
	return serve()
}

// client returns who sends the request: whom the hop in front names last in
// X-Forwarded-For, if that hop is on this machine or in a private network, as
// Traefik is, and else the peer itself. What stands further in front in that header
// anybody may have written.
func (c *conn) client() netip.Addr {
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
