package telemetry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// WriteTimeout is how long a client may take nothing of its answer. It must take
	// slowestClient bytes a second; the time that it is late by is counted over the whole
	// answer, and is never more than WriteTimeout.
	WriteTimeout  = 30 * time.Second
	slowestClient = 64 << 10
	// sendBuffer is how much the system keeps for a client that does not read. By itself
	// it would keep up to 4 MiB.
	sendBuffer = 256 << 10
	// refusalPause is how long a refusal waits for the rest of a small body, so that the
	// connection can be used again.
	refusalPause = 100 * time.Millisecond
	// A client that still sends when its connection ends is read on for this time and
	// this many bytes, or until it pauses: closing at once would take the answer away
	// from it (RFC 9112, section 9.6).
	lingerTime  = 10 * time.Second
	lingerPause = time.Second
	lingerBytes = 64 << 20
)

// A clientListener makes the connections that Serve needs.
type clientListener struct {
	net.Listener

	logger       *slog.Logger
	writeTimeout time.Duration
}

func (l clientListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn, err
	}
	_ = tcp.SetWriteBuffer(sendBuffer) // fails on a closed connection, as the read will
	c := &clientConn{TCPConn: tcp, logger: l.logger, timeout: l.writeTimeout}
	c.broken, c.breaks = context.WithCancel(context.Background())
	c.half, c.halve = context.WithCancel(c.broken)
	return c, err
}

// A clientConn is a client's connection. Over net/http's own it tells a client that has
// closed its sending side from one that is gone, makes the plain texts of net/http
// problems (see malformedAnswer), gives every answer a time limit, and reads on when an
// answer comes before the end of its request.
//
// It embeds the type and not the interface: net/http looks for methods that net.Conn
// does not have.
type clientConn struct {
	*net.TCPConn

	logger  *slog.Logger
	timeout time.Duration

	// broken ends when the connection does, half also when the client sends nothing more.
	// TCP tells a closed sending side and a closed connection apart only by the reset that
	// a closed one answers a write with.
	broken, half  context.Context //nolint:containedctx // they are no request's
	breaks, halve context.CancelFunc
	// lingers says that the client may still be sending.
	lingers atomic.Bool

	mu     sync.Mutex    // guards what follows
	at     time.Time     // the deadline for writing, zero when it is not known
	theirs bool          // a handler has set it
	late   time.Duration // what the client is late by with its answer
}

func (c *clientConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		c.halve()
	case !errors.Is(err, os.ErrDeadlineExceeded):
		c.breaks()
	}
	return n, err
}

func (c *clientConn) Write(b []byte) (int, error) {
	answer, id, ok := malformedAnswer(b)
	if !ok {
		return c.send(b)
	}
	c.lingers.Store(true)
	c.logger.Debug("request refused", "request_id", id, "answer", string(b[:len("HTTP/1.1 400")]), "remote", c.RemoteAddr().String())
	if n, err := c.send(answer); err != nil {
		return min(n, len(b)), err
	}
	return len(b), nil
}

// send writes a part of an answer.
func (c *clientConn) send(b []byte) (sent int, err error) {
	for sent < len(b) && err == nil {
		piece := b[sent:min(sent+slowestClient, len(b))]
		due := time.Duration(len(piece)) * time.Second / slowestClient
		began := time.Now()
		ours := c.allow(began, due)
		var n int
		n, err = c.TCPConn.Write(piece)
		sent += n
		c.took(time.Since(began) - due)
		if err != nil {
			c.failed(err, ours)
		}
	}
	return sent, err
}

// allow sets the deadline for a piece that is due after that time, unless a handler has.
func (c *clientConn) allow(now time.Time, due time.Duration) (ours bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.theirs {
		return false
	}
	left := c.timeout - c.late + due
	if ahead := c.at.Sub(now); ahead < left || ahead > left+left/8 { // it is moved only when it must be
		c.at = now.Add(left + left/8)
		_ = c.TCPConn.SetWriteDeadline(c.at) // fails on a closed connection, as the write will
	}
	return true
}

// took notes that the client was later with a piece than due, or earlier.
func (c *clientConn) took(later time.Duration) {
	c.mu.Lock()
	c.late = max(0, c.late+later)
	c.mu.Unlock()
}

// failed ends the requests of a connection that takes no more.
func (c *clientConn) failed(err error, ours bool) {
	if ours && errors.Is(err, os.ErrDeadlineExceeded) {
		c.logger.Warn("a client does not take its answer; it was cut", "remote", c.RemoteAddr().String(), "timeout", c.timeout.String())
		_ = c.SetLinger(0) // or the system would keep what it has for it
	}
	c.breaks()
}

// SetWriteDeadline sets the deadline of a handler that has its own. The zero time, which
// net/http sets behind every answer, takes it back.
func (c *clientConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.IsZero() {
		c.theirs, c.late = false, 0
		return nil
	}
	c.theirs, c.at = true, time.Time{}
	return c.TCPConn.SetWriteDeadline(t)
}

// CloseWrite lets the client read the answer, and reads on while it sends.
func (c *clientConn) CloseWrite() error {
	err := c.TCPConn.CloseWrite()
	if c.lingers.Swap(false) && err == nil {
		c.drain()
	}
	return err
}

func (c *clientConn) Close() error {
	c.breaks()
	if c.lingers.Load() {
		_ = c.CloseWrite() // fails on a connection that the client has closed
	}
	return c.TCPConn.Close()
}

func (c *clientConn) drain() {
	scratch := make([]byte, 32<<10)
	began := time.Now()
	for left := lingerBytes; left > 0 && time.Since(began) < lingerTime; {
		_ = c.SetReadDeadline(time.Now().Add(lingerPause))
		n, err := c.TCPConn.Read(scratch)
		if left -= n; err != nil {
			return
		}
	}
}

type clientKey struct{}

func withClient(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*clientConn); ok {
		return context.WithValue(ctx, clientKey{}, c)
	}
	return ctx
}

func clientOf(ctx context.Context) *clientConn {
	c, _ := ctx.Value(clientKey{}).(*clientConn)
	return c
}

// kept says that another request may follow on conn.
func kept(conn net.Conn, state http.ConnState) {
	if c, ok := conn.(*clientConn); ok && state == http.StateIdle {
		c.lingers.Store(false)
	}
}

// HalfClosed returns a context that ends, beside with ctx, when the client of the
// request that ctx belongs to has closed its sending side. Whether it still reads, only
// writing to it tells.
func HalfClosed(ctx context.Context) (context.Context, context.CancelFunc) {
	half, cancel := context.WithCancel(ctx)
	c := clientOf(ctx)
	if c == nil {
		return half, cancel
	}
	stop := context.AfterFunc(c.half, cancel)
	return half, func() { stop(); cancel() }
}

// A requestContext ends when the client's connection breaks, and not when the client
// closes its sending side, as that of net/http does.
type requestContext struct {
	context.Context //nolint:containedctx // that of the connection

	request context.Context //nolint:containedctx // whose values it has
}

func (c requestContext) Value(key any) any {
	if value := c.Context.Value(key); value != nil {
		return value // what context needs to cancel children without a goroutine
	}
	return c.request.Value(key)
}

// A requestBody knows whether all of it was read.
type requestBody struct {
	io.ReadCloser

	ended bool
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || errors.Is(err, io.EOF)
	return n, err
}
