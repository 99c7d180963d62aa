package h1

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	dialTimeout = 3 * time.Second
	// IdleUpstream is how long an unused connection to a backend is kept. The backend must
	// keep it longer: if it closes one on which a write is being sent, nobody knows whether
	// the write was done.
	IdleUpstream = 90 * time.Second
	// Every shrinkInterval, half of the connections that were not used during it are closed,
	// down to alwaysKept.
	shrinkInterval = 5 * time.Second
	alwaysKept     = 64
)

// A Pool has the connections to one backend. A new one is made only when none is idle, so
// there are never more than clients have. What is left of a peak is closed step by step.
type Pool struct {
	Address string // host:port
	// Unreachable is called when a connection cannot be made.
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
	Open, Idle          int // connections in all, and those that no request uses
	Dialed, DialsFailed uint64
}

// Stats may be called at any time.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PoolStats{int(p.open.Load()), len(p.idle), p.dialed.Load(), p.dialsFailed.Load()}
}

// dial makes a new connection.
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

// A dialError does not unwrap: a dial that timed out is not a backend that timed out, since
// nothing was sent.
type dialError struct{ cause error }

func (e *dialError) Error() string { return e.cause.Error() }

// take returns the idle connection that was used last, if it is still open, or nil.
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

// put keeps up for another request.
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

// Shrink closes connections that are no longer needed. It must be called now and then.
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

// unused counts the connections that were not used since then. They are the first ones, since
// take takes the last.
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

// Close closes the idle connections now, and the others when their requests end.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Clear()
}

// maxAnswerHeaders bounds the head of a backend's answer, in bytes.
const maxAnswerHeaders = 256 << 10

// An upstream is a connection to a backend. One request at a time uses it.
type upstream struct {
	net.Conn

	pool    *Pool
	raw     syscall.RawConn
	in      buffer
	readBy  deadline
	writeBy deadline
	reused  bool // it has served a request before
	idle    time.Time
	closed  atomic.Bool
}

// close closes the connection. It may be called twice.
func (up *upstream) close() {
	if !up.closed.Swap(true) {
		up.pool.open.Add(-1)
		up.Close() // of net.Conn
	}
}

// abort resets the connection, which tells the backend that the request is given up. A plain
// close would only tell it that nothing more is sent.
func (up *upstream) abort() {
	if tcp, ok := up.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails on a closed connection
	}
	up.close()
}

// isQuiet reports whether the connection is open and nothing has arrived on it, which would
// be taken for the next answer.
func (up *upstream) isQuiet() bool {
	quiet := false
	err := up.raw.Control(func(fd uintptr) { quiet = peek(fd) == peekNothing })
	return err == nil && quiet && up.in.len() == 0
}

// The results of peek.
const (
	peekNothing = iota
	peekData
	peekEnd // the peer sends nothing more; it may still read
	peekBroken
)

// peek reports what the next read would find, without waiting. It reports peekBroken only once,
// as the system does.
func peek(fd uintptr) int {
	var b [1]byte
	for {
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return peekNothing
		case err != nil:
			return peekBroken
		case n > 0:
			return peekData
		default:
			return peekEnd
		}
	}
}

// readHead reads the head of an answer. If it fails and the buffer is empty, nothing was
// received.
func (up *upstream) readHead(to *Response) error {
	checked := 0
	for {
		n, malformed := HeadLength(up.in.bytes(), checked)
		if malformed == nil && n > 0 {
			malformed = to.Parse(up.in.take(n))
		}
		if malformed != nil {
			return malformed
		}
		if n > 0 {
			return nil
		}
		checked = up.in.len()
		if err := up.in.fill(up.Conn, maxAnswerHeaders); err != nil {
			return err
		}
	}
}

// An Order is the backends that a request may go to.
type Order struct {
	// First is the first of All, or nil if there is none.
	First *Pool
	// All yields the backends to try, one after the other. It may wait for the next one
	// until the context ends.
	All func(context.Context) iter.Seq[*Pool]
}

// connect returns a connection to the first backend that accepts one. It may be one that was
// kept, unless fresh is set.
func (c *conn) connect(fresh bool) (up *upstream, err error) {
	order := c.decision.Order()
	if !fresh && order.First != nil {
		if up := order.First.take(); up != nil {
			return up, nil
		}
	}
	cause := c.await(func(ctx context.Context) { up, err = order.connect(ctx, fresh) })
	if cause != nil && up != nil {
		up.close()
	}
	return up, cmp.Or(cause, err)
}

func (o *Order) connect(ctx context.Context, fresh bool) (*upstream, error) {
	last := ErrNoBackend
	for p := range o.All(ctx) {
		if !fresh {
			if up := p.take(); up != nil {
				return up, nil
			}
		}
		up, err := p.dial(ctx)
		if err == nil || ctx.Err() != nil {
			return up, err
		}
		p.Unreachable(err)
		last = err
	}
	return nil, last
}
