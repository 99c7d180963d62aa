package h1

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

const (
	// idlePause is how long a connection is idle before it frees the memory of a large message.
	idlePause = 100 * time.Millisecond
	// sendBuffer bounds what the system holds for a client that does not read. By default it
	// would hold up to 4 MiB, and hide for as long that the client does not read.
	sendBuffer = 256 << 10
	// usualFields is more fields than most heads have.
	usualFields = 64
)

// A conn is a client's connection. One goroutine answers its requests, one after the other.
type conn struct {
	net.Conn

	server  *Server
	handler Handler
	raw     syscall.RawConn // nil if there is none
	in      buffer
	out     []byte // the next write; reused
	readBy  deadline
	writeBy deadline
	surplus bool // one too many

	// These belong to the current request.
	x        Exchange
	decision Decision
	res      Response
	toHEAD   bool
	unread   body    // belongs to upload while that runs
	upload   *upload // nil if there is no need for one
	sent     bool    // the backend took the whole request

	mu      sync.Mutex // guards the fields below, for goroutines that end the request
	phase   phase
	turn    uint64             // counts changes of phase
	seen    uint64             // the turn at the last inspection
	up      *upstream          // the connection that the request uses
	giveUp  context.CancelFunc // ends await
	cause   error              // why another goroutine ended the request
	watcher chan struct{}
}

func newConn(s *Server, client net.Conn) *conn {
	c := &conn{Conn: client, server: s, handler: s.cfg.NewHandler(client.RemoteAddr())}
	c.readBy.set, c.writeBy.set = client.SetReadDeadline, client.SetWriteDeadline
	if tcp, ok := client.(*net.TCPConn); ok {
		c.raw, _ = tcp.SyscallConn() // fails only on a closed connection
		_ = tcp.SetWriteBuffer(sendBuffer)
	}
	return c
}

// serve answers requests until the connection ends.
func (c *conn) serve() {
	defer func() {
		if cause := recover(); cause != nil {
			c.x.End, c.x.Err = Panicked, fmt.Errorf("%v\n%s", cause, debug.Stack())
			c.abort()
			c.handler.Done(&c.x)
		}
	}()
	for c.x.End == Open {
		c.serveOne()
	}
	c.hangUp()
}

// serveOne waits for a request and answers it. It sets Exchange.End unless another request may
// follow.
func (c *conn) serveOne() {
	x := &c.x
	*x = Exchange{
		conn: c, Surplus: c.surplus,
		Request: Request{Fields: x.Fields[:0]}, ToBackend: x.ToBackend[:0], ToClient: x.ToClient[:0], // reused
	}
	c.decision, c.upload, c.sent = Decision{}, nil, false
	n, malformed, err := c.readHead()
	if err != nil {
		x.End = Closing
		return
	}
	if malformed == nil {
		malformed = x.Parse(c.in.take(n))
	}
	x.Malformed = malformed
	c.unread = body{left: x.Length}
	c.toHEAD = malformed == nil && string(x.Method) == http.MethodHead
	c.decision = c.handler.Decide(x)
	switch {
	case x.End != Open:
	case c.decision.Answer != nil:
		c.answer(c.decision.Answer)
	default:
		c.forward()
	}
	c.handler.Done(x)
}

// readHead waits for a request and returns the length of its head, which is in the buffer. It
// returns an error if none comes.
func (c *conn) readHead() (n int, malformed *Error, err error) {
	if c.in.len() == 0 {
		if err := c.awaitRequest(); err != nil {
			return 0, nil, err
		}
	}
	c.x.Began = time.Now()
	timeout, most := c.server.cfg.HeaderTimeout, c.server.cfg.MaxHeaderBytes
	checked := 0
	for {
		for bytes.HasPrefix(c.in.bytes(), []byte("\r\n")) { // RFC 9112, section 2.2
			c.in.take(2)
		}
		n, malformed := HeadLength(c.in.bytes(), checked)
		switch {
		case malformed != nil || n > 0:
			return n, malformed, nil
		case time.Since(c.x.Began) > timeout:
			return 0, slowHead(timeout), nil
		}
		checked = c.in.len()
		c.readBy.in(c.x.Began, timeout)
		switch err := c.in.fill(c.Conn, most); {
		case errors.Is(err, errFull):
			return 0, &Error{
				http.StatusRequestHeaderFieldsTooLarge,
				fmt.Sprintf("headers: are larger than %d bytes, with the request line, which is a fixed limit", most),
			}, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return 0, slowHead(timeout), nil
		case err != nil:
			return 0, nil, err
		}
	}
}

func slowHead(timeout time.Duration) *Error {
	return &Error{http.StatusRequestTimeout, fmt.Sprintf("headers: did not arrive within %s", timeout)}
}

// awaitRequest waits until something arrives. A connection that stays idle frees what a large
// message needed.
func (c *conn) awaitRequest() error {
	patience := c.server.cfg.IdleTimeout
	if c.surplus {
		patience = surplusTime
	}
	if c.isHeavy() {
		err := c.awaitInput(idlePause)
		if !isTimeout(err) {
			return err
		}
		c.lighten()
	}
	return c.awaitInput(patience)
}

func (c *conn) awaitInput(patience time.Duration) error {
	c.readBy.in(time.Now(), patience)
	if !c.becomeIdle() {
		return net.ErrClosed
	}
	defer c.become(reading)
	return c.in.fill(c.Conn, c.server.cfg.MaxHeaderBytes)
}

func (c *conn) isHeavy() bool {
	return len(c.in.b) > smallBuffer || cap(c.out)+cap(c.x.ToBackend) > smallBuffer ||
		cap(c.x.Fields)+cap(c.res.Fields) > 2*usualFields
}

// lighten frees what a large message needed, except unread bytes. What is left of the heads is
// only their numbers.
func (c *conn) lighten() {
	if !c.isHeavy() {
		return
	}
	c.in.shrink()
	c.out, c.x.ToBackend = nil, nil
	c.x.Fields, c.x.Method, c.x.Target, c.x.Host = nil, nil, nil, nil
	c.res.Fields, c.res.Reason = nil, nil
}

// answer sends an answer that comes from no backend.
func (c *conn) answer(a *Answer) {
	c.x.End = c.endOfAnswer()
	c.x.Status = a.Status
	to := appendDate(appendStatus(c.out[:0], a.Status, a.Reason))
	to = append(to, a.Head...)
	to = append(to, c.x.ToClient...)
	to = appendLength(to, int64(len(a.Body)))
	to = c.appendConnection(to)
	to = append(to, "\r\n"...)
	if !c.toHEAD {
		to = append(to, a.Body...)
	}
	c.out = to
	_ = c.write(to) // sets Exchange.End if it fails
}

// endOfAnswer returns what becomes of the connection after such an answer. If the request was not
// read whole, it may read the rest first.
func (c *conn) endOfAnswer() End {
	switch {
	case c.x.Malformed != nil, c.surplus, errors.Is(c.x.Err, ErrBodyTimeout), errors.Is(c.x.Err, ErrBodyMalformed):
		return Unread
	case c.unread.left == 0:
	case c.unread.left > 0 && c.unread.left <= int64(c.in.len()):
		c.in.take(int(c.unread.left))
	case c.readOn():
		return Closing
	default:
		return Unread
	}
	if !c.x.KeepAlive || c.server.leaving.Load() {
		return Closing
	}
	return Open
}

// appendConnection tells the client whether another request may follow.
func (c *conn) appendConnection(to []byte) []byte {
	switch {
	case c.x.End != Open:
		return append(to, "Connection: close\r\n"...)
	case c.x.Minor == 0:
		return append(to, "Connection: keep-alive\r\n"...)
	}
	return to
}

// write sends a part of an answer to the client. If it fails, it sets Exchange.End.
func (c *conn) write(b []byte) error {
	c.allowWrite()
	_, err := c.Write(b)
	switch {
	case err == nil:
	case c.streamEnded():
		c.x.End = Interrupted
	case isTimeout(err):
		c.x.End = ClientStalled
	default:
		c.x.End = ClientGone
	}
	return err
}

// allowWrite sets the deadline for a write, unless endStream has set one in the past.
func (c *conn) allowWrite() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.decision.Stream == nil || c.cause == nil {
		c.writeBy.in(time.Now(), c.server.cfg.WriteTimeout)
	}
}

func (c *conn) streamEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.decision.Stream != nil && c.cause != nil
}

// hangUp closes the connection in the way that Exchange.End demands.
func (c *conn) hangUp() {
	switch end := c.x.End; {
	case end == Unread, end == Closing && c.in.len() > 0:
		c.linger()
	case end == ClientStalled, end > Unread && c.endsByClosing():
		// A reset. In the first case the system drops what it holds for the client. In the
		// second, a broken answer would look whole without it.
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	c.Close()
}
