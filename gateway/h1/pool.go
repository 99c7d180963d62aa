package h1

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	dialTimeout = 3 * time.Second
	// IdleUpstream is how long an unused connection to a backend is kept. The backend must
	// keep it longer: one that it closes while a write is being sent on it leaves the client
	// without an answer.
	IdleUpstream = 90 * time.Second
	// After each shrinkInterval, half of the connections that nobody used during it are
	// closed, but never so many that fewer than alwaysKept are left.
	shrinkInterval = 5 * time.Second
	alwaysKept     = 64
)

// A Pool has the connections to one backend. One is made only when none is idle, so there
// are never more than were in use at once, and never more than clients may have. What a
// peak leaves behind is closed step by step.
type Pool struct {
	Address string // host:port
	// Unreachable is called when no connection could be made.
	Unreachable func(cause error)

	dialed, dialsFailed atomic.Uint64
	open                atomic.Int64

	mu     sync.Mutex // guards what follows
	idle   []*upstream
	shrunk time.Time
	closed bool
}

// PoolStats describe a pool.
type PoolStats struct {
	// Open counts the connections, Idle those of them that no request uses.
	Open, Idle int
	// Dialed counts the connections that were made, DialsFailed those that were not.
	Dialed, DialsFailed uint64
}

// Stats may be called at any time.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PoolStats{Open: int(p.open.Load()), Idle: len(p.idle), Dialed: p.dialed.Load(), DialsFailed: p.dialsFailed.Load()}
}

// dial makes a new connection. Its error is never a timeout of the backend,
// which has not seen the request.
func (p *Pool) dial(ctx context.Context) (*upstream, error) {
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", p.Address)
	if err != nil {
		p.dialsFailed.Add(1)
		return nil, &dialError{err}
	}
	p.dialed.Add(1)
	p.open.Add(1)
	up := &upstream{Conn: conn, pool: p}
	up.readBy.set, up.writeBy.set = conn.SetReadDeadline, conn.SetWriteDeadline
	up.raw, _ = conn.(*net.TCPConn).SyscallConn() // cannot fail on an open connection
	return up, nil
}

// dialError says that no connection was made and thus nothing was sent. It does
// not unwrap: a dial that timed out is not a backend that timed out.
type dialError struct{ cause error }

func (e *dialError) Error() string { return e.cause.Error() }

// take returns the connection that was used last and is still open, or nil.
func (p *Pool) take() *upstream {
	for {
		p.mu.Lock()
		last := len(p.idle) - 1
		if last < 0 {
			p.mu.Unlock()
			return nil
		}
		up := p.idle[last]
		p.idle[last] = nil
		p.idle = p.idle[:last]
		p.mu.Unlock()
		if up.isQuiet() {
			return up
		}
		up.close()
	}
}

// put keeps up for the next request.
func (p *Pool) put(up *upstream, now time.Time) {
	up.reused, up.idle = true, now
	up.in.shrink()
	p.mu.Lock()
	if !p.closed {
		p.idle = append(p.idle, up)
		up = nil
	}
	p.mu.Unlock()
	if up != nil {
		up.close()
	}
}

// Shrink closes what is not needed any more.
func (p *Pool) Shrink(now time.Time) {
	p.mu.Lock()
	surplus := p.unused(now.Add(-IdleUpstream))
	if now.Sub(p.shrunk) >= shrinkInterval {
		p.shrunk = now
		spare := min(p.unused(now.Add(-shrinkInterval)), len(p.idle)-alwaysKept)
		surplus = max(surplus, (spare+1)/2)
	}
	closing := append([]*upstream(nil), p.idle[:surplus]...)
	left := copy(p.idle, p.idle[surplus:])
	clear(p.idle[left:])
	p.idle = p.idle[:left]
	p.mu.Unlock()
	for _, up := range closing {
		up.close()
	}
}

// unused returns how many were not used since then. They are the first: the last is always
// taken first.
func (p *Pool) unused(then time.Time) int {
	n := 0
	for n < len(p.idle) && p.idle[n].idle.Before(then) {
		n++
	}
	return n
}

// Clear closes the idle connections.
func (p *Pool) Clear() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, up := range idle {
		up.close()
	}
}

// Close closes the idle connections, and the others when their requests end.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Clear()
}
