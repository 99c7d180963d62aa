package proxy

import (
	"cmp"
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"kvstore/gateway/wire"
)

const (
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

// connect returns a connection to the backend whose turn it is, kept or new; if there is none
// to be had it tries the next backend. With fresh the connection is a new one. The error is that
// of the last attempt, or why others have ended the request.
func (c *conn) connect(fresh bool) (up *upstream, err error) {
	pool := c.p.pool
	order := pool.order()
	if !fresh && len(order.live) > 0 {
		if up := order.live[0].reserve.take(); up != nil {
			return up, nil
		}
	}
	cause := c.await(func(ctx context.Context) { up, err = pool.connect(ctx, order, fresh) })
	if cause != nil && up != nil {
		up.Close()
	}
	return up, cmp.Or(cause, err)
}

func (p *pool) connect(ctx context.Context, o order, fresh bool) (*upstream, error) {
	last := errNoBackend
	if len(o.live)+len(o.gone) == 0 {
		last = errLoop
	}
	for b := range p.candidates(ctx, o) {
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
		p.unreachable(b, err)
		last = err
	}
	if differ := p.differ(); differ != nil {
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
