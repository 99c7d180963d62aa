package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"kvstore/internal/problem"
)

const (
	// WriteTimeout bounds how far a client may fall behind slowestClient bytes per second
	// while it reads an answer, in total.
	WriteTimeout  = 30 * time.Second
	slowestClient = 64 << 10
	// sendBuffer bounds what the kernel buffers for a client that does not read. The
	// default is up to 4 MiB.
	sendBuffer = 256 << 10
	// refusalPause is how long a refusal waits for the rest of a small body, to keep the
	// connection usable.
	refusalPause = 100 * time.Millisecond
	// If a client is still sending when its connection ends, the server keeps reading for
	// this long and this many bytes, or until the client pauses. Closing at once could
	// destroy the answer before the client reads it (RFC 9112, section 9.6).
	lingerTime  = 10 * time.Second
	lingerPause = time.Second
	lingerBytes = 64 << 20
)

// A clientListener accepts connections as clientConns.
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
	_ = tcp.SetWriteBuffer(sendBuffer) // if the connection is closed, the read will fail too
	c := &clientConn{TCPConn: tcp, logger: l.logger, timeout: l.writeTimeout}
	c.broken, c.breaks = context.WithCancel(context.Background())
	c.half, c.halve = context.WithCancel(c.broken)
	return c, err
}

// A clientConn is a connection of a client. It adds to the one of net/http: it
// distinguishes a client that has closed its sending side from one that is gone, turns
// the plain-text errors of net/http into problems (see malformedAnswer), limits the time
// of every answer, and keeps reading if an answer ends before its request.
//
// It embeds *net.TCPConn because net/http looks for methods that net.Conn does not have.
type clientConn struct {
	*net.TCPConn

	logger  *slog.Logger
	timeout time.Duration

	// broken ends when the connection does, half also when the client closes its sending
	// side. In TCP, a closed connection differs from a closed sending side only by the
	// reset that answers a write.
	broken, half  context.Context //nolint:containedctx // of the connection, not of a request
	breaks, halve context.CancelFunc
	// lingers is set while the client may still be sending.
	lingers atomic.Bool

	mu       sync.Mutex    // guards the fields below
	deadline time.Time     // for writing; zero if unknown
	theirs   bool          // a handler has set its own deadline
	late     time.Duration // how far the client is behind with the current answer
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
	c.logger.Debug("request refused", "request_id", id, "answer", string(b[:len("HTTP/1.1 400")]),
		"remote", c.RemoteAddr().String())
	if n, err := c.send(answer); err != nil {
		return min(n, len(b)), err
	}
	return len(b), nil
}

// send writes a part of an answer, with a deadline for each piece.
func (c *clientConn) send(b []byte) (sent int, err error) {
	for sent < len(b) && err == nil {
		piece := b[sent:min(sent+slowestClient, len(b))]
		due := time.Duration(len(piece)) * time.Second / slowestClient
		start := time.Now()
		ours := c.extendDeadline(start, due)
		var n int
		n, err = c.TCPConn.Write(piece)
		sent += n
		c.addLate(time.Since(start) - due)
		if err != nil {
			c.failed(err, ours)
		}
	}
	return sent, err
}

// extendDeadline sets the deadline for a piece that should take due, unless a handler has
// set its own.
func (c *clientConn) extendDeadline(now time.Time, due time.Duration) (ours bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.theirs {
		return false
	}
	left := c.timeout - c.late + due
	if ahead := c.deadline.Sub(now); ahead < left || ahead > left+left/8 { // setting it is not free
		c.deadline = now.Add(left + left/8)
		_ = c.TCPConn.SetWriteDeadline(c.deadline) // if the connection is closed, the write will fail too
	}
	return true
}

// addLate records that a piece took longer than it should, or less if negative.
func (c *clientConn) addLate(later time.Duration) {
	c.mu.Lock()
	c.late = max(0, c.late+later)
	c.mu.Unlock()
}

// failed ends the requests of a connection that cannot be written to.
func (c *clientConn) failed(err error, ours bool) {
	if ours && errors.Is(err, os.ErrDeadlineExceeded) {
		c.logger.Warn("a client read its answer too slowly and was disconnected",
			"remote", c.RemoteAddr().String(), "timeout", c.timeout.String())
		_ = c.SetLinger(0) // so that the kernel drops what it has buffered
	}
	c.breaks()
}

// SetWriteDeadline sets a handler's own deadline. The zero time, which net/http sets after
// every answer, removes it.
func (c *clientConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.IsZero() {
		c.theirs, c.late = false, 0
		return nil
	}
	c.theirs, c.deadline = true, time.Time{}
	return c.TCPConn.SetWriteDeadline(t)
}

// CloseWrite closes the sending side, and keeps reading while the client sends.
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
		_ = c.CloseWrite() // fails if the client has closed the connection
	}
	return c.TCPConn.Close()
}

func (c *clientConn) drain() {
	scratch := make([]byte, 32<<10)
	start := time.Now()
	for left := lingerBytes; left > 0 && time.Since(start) < lingerTime; {
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

// connState notes that a connection is idle, so that its client is not sending.
func connState(conn net.Conn, state http.ConnState) {
	if c, ok := conn.(*clientConn); ok && state == http.StateIdle {
		c.lingers.Store(false)
	}
}

// HalfClosed returns a context that ends with ctx, which must be of a request, or when the
// client closes its sending side. Only a write can find out if the client still reads.
func HalfClosed(ctx context.Context) (context.Context, context.CancelFunc) {
	half, cancel := context.WithCancel(ctx)
	c := clientOf(ctx)
	if c == nil {
		return half, cancel
	}
	stop := context.AfterFunc(c.half, cancel)
	return half, func() { stop(); cancel() }
}

// A requestContext ends when the client's connection breaks. Unlike the one of net/http, it
// does not end when the client closes its sending side.
type requestContext struct {
	context.Context //nolint:containedctx // of the connection

	request context.Context //nolint:containedctx // for its values
}

func (c requestContext) Value(key any) any {
	if value := c.Context.Value(key); value != nil {
		return value // package context uses it to cancel children without a goroutine
	}
	return c.request.Value(key)
}

// A requestBody records whether all of it was read.
type requestBody struct {
	io.ReadCloser

	ended bool
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || errors.Is(err, io.EOF)
	return n, err
}

// net/http itself answers requests that it cannot parse, such as those with a bad
// percent-encoding or an invalid header, in plain text and without calling a handler. It
// writes the whole answer in one call. These bytes follow the status line of such an
// answer, and of no other.
var plainTextAnswer = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")

// plainTextHead is longer than the status line and plainTextAnswer together.
const plainTextHead = 512

// malformedAnswer returns a problem to send instead of b, and the id of the request, if b
// is net/http's own answer to a request that it could not parse.
func malformedAnswer(b []byte) (problemAnswer []byte, id string, ok bool) {
	const protocol = "HTTP/1.1 "
	if !bytes.Contains(b[:min(len(b), plainTextHead)], plainTextAnswer) {
		return nil, "", false
	}
	line, reason, _ := bytes.Cut(b, plainTextAnswer)
	if !bytes.HasPrefix(line, []byte(protocol)) || len(line) < len(protocol)+3 || bytes.ContainsRune(line, '\r') {
		return nil, "", false
	}
	status, err := strconv.Atoi(string(line[len(protocol) : len(protocol)+3]))
	if err != nil {
		return nil, "", false
	}
	id = uuid.NewString()
	body := problem.New(status, "malformed_request", "The request is not valid HTTP: "+string(reason)).Encode()
	var answer bytes.Buffer
	fmt.Fprintf(&answer, "%s%d %s\r\n", protocol, status, problem.Phrase(status))
	fmt.Fprintf(&answer, "Content-Type: %s\r\nContent-Length: %d\r\nCache-Control: no-store\r\n",
		problem.ContentType, len(body))
	fmt.Fprintf(&answer, "%s: %s\r\nConnection: close\r\n\r\n%s", RequestIDHeader, id, body)
	return answer.Bytes(), id, true
}
