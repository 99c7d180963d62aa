package h1

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

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
	reused  bool      // a request was answered on it before
	idle    time.Time // since when
	closed  atomic.Bool
}

// close closes the connection; again it does nothing.
func (up *upstream) close() {
	if !up.closed.Swap(true) {
		up.pool.open.Add(-1)
		up.Close() // that of net.Conn
	}
}

// abort closes the connection with a reset, which tells the backend that its request
// is given up. By a plain end it would only learn that nothing more is sent.
func (up *upstream) abort() {
	if tcp, ok := up.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails on a closed connection
	}
	up.close()
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

// readHead reads the head of an answer into to. Nothing was received when it
// fails with the buffer empty.
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

// An Order is where one attempt to send a request may go.
type Order struct {
	// First is the first of All, nil if there is none.
	First *Pool
	// All yields the backends to try, one after the other. It may wait for one, until the
	// context ends.
	All func(context.Context) iter.Seq[*Pool]
}

// connect returns a connection to the first backend that there is one to, kept or, with
// fresh, a new one. The error is that of the last attempt, or why others have ended the
// request.
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
