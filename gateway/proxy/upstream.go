package proxy

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"kvstore/gateway/wire"
)

const (
	// idleTimeout is how long an unused connection to a backend is kept. It must
	// be shorter than telemetry.IdleTimeout: a backend that closes a connection
	// while a write is being sent on it leaves the client without an answer.
	idleTimeout      = 90 * time.Second
	idlePerBackend   = 512
	dialTimeout      = 3 * time.Second
	maxAnswerHeaders = 256 << 10
)

// errNoBackend is the reason when not even a dial was tried.
var errNoBackend = errors.New("no backend whose store is known")

// An upstream is a connection to a backend. One request at a time uses it.
type upstream struct {
	net.Conn

	backend *backend
	raw     syscall.RawConn
	in      buffer
	readBy  deadline
	writeBy deadline
	reused  bool      // a request was answered on it before
	idle    time.Time // since when
}

// A reserve keeps the idle connections to one backend.
type reserve struct {
	mu    sync.Mutex // guards idle
	idle  []*upstream
	ended bool
}

// take returns the connection that was used last and is still open, or nil.
func (r *reserve) take() *upstream {
	for {
		r.mu.Lock()
		last := len(r.idle) - 1
		if last < 0 {
			r.mu.Unlock()
			return nil
		}
		up := r.idle[last]
		r.idle[last] = nil
		r.idle = r.idle[:last]
		r.mu.Unlock()
		if up.isQuiet() {
			return up
		}
		up.Close()
	}
}

// put keeps up for the next request.
func (r *reserve) put(up *upstream, now time.Time) {
	up.reused, up.idle = true, now
	up.in.shrink()
	r.mu.Lock()
	full := r.ended || len(r.idle) >= idlePerBackend
	if !full {
		r.idle = append(r.idle, up)
	}
	r.mu.Unlock()
	if full {
		up.Close()
	}
}

// expire closes the connections that are idle since before then.
func (r *reserve) expire(then time.Time) {
	r.mu.Lock()
	old := 0 // the first was used least recently
	for old < len(r.idle) && r.idle[old].idle.Before(then) {
		old++
	}
	expired := append([]*upstream(nil), r.idle[:old]...)
	r.idle = append(r.idle[:0], r.idle[old:]...)
	r.mu.Unlock()
	for _, up := range expired {
		up.Close()
	}
}

// close closes all, and those that are put from now on.
func (r *reserve) close() {
	r.mu.Lock()
	idle := r.idle
	r.idle, r.ended = nil, true
	r.mu.Unlock()
	for _, up := range idle {
		up.Close()
	}
}

// isQuiet reports whether the connection is open and nothing has arrived on it.
// Whatever a backend says unasked would be taken for the next answer.
func (up *upstream) isQuiet() bool {
	quiet := false
	err := up.raw.Control(func(fd uintptr) { quiet = peek(fd) == peekNothing })
	return err == nil && quiet && up.in.len() == 0
}

// What peek finds.
const (
	peekNothing = iota
	peekData
	peekEnd    // the peer sends nothing more; it may still read
	peekBroken // the connection is
)

// peek looks whether there is something to read without waiting and without
// reading it.
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

// abort closes the connection with a reset, which tells the backend that its request
// is given up. By a plain end it would only learn that nothing more is sent.
func (up *upstream) abort() {
	if tcp, ok := up.Conn.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0) // fails on a closed connection
	}
	up.Close()
}

// connect returns a connection to the first backend that has one or to which one
// can be made, in the order of the pool. With fresh it must be a new one.
func (p *Proxy) connect(ctx context.Context, fresh bool) (*upstream, error) {
	last := errNoBackend
	for b := range p.pool.candidates(ctx) {
		if !fresh {
			if up := b.reserve.take(); up != nil {
				return up, nil
			}
		}
		up, err := dial(ctx, b)
		if err == nil {
			return up, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		p.pool.unreachable(b, err)
		last = err
	}
	if differ := p.pool.differ(); differ != nil {
		last = differ
	}
	return nil, last
}

// dial makes a new connection. Its error is never a timeout of the backend,
// which has not seen the request.
func dial(ctx context.Context, b *backend) (*upstream, error) {
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", b.url.Host)
	if err != nil {
		b.dialsFailed.Add(1)
		return nil, &dialError{err}
	}
	counted := &countedConn{TCPConn: conn.(*net.TCPConn), open: &b.open}
	b.dialed.Add(1)
	b.open.Add(1)
	up := &upstream{Conn: counted, backend: b}
	up.readBy.set, up.writeBy.set = conn.SetReadDeadline, conn.SetWriteDeadline
	if up.raw, err = counted.SyscallConn(); err != nil {
		up.Close()
		return nil, &dialError{err}
	}
	return up, nil
}

// dialError says that no connection was made and thus nothing was sent. It does
// not unwrap: a dial that timed out is not a backend that timed out.
type dialError struct{ cause error }

func (e *dialError) Error() string { return e.cause.Error() }

// readHead reads the head of an answer into to. Nothing was received when it
// fails with the buffer empty.
func (up *upstream) readHead(to *wire.Response) error {
	checked := 0
	for {
		n, malformed := wire.HeadLength(up.in.bytes(), checked)
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
