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
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	// idlePause is how long a connection that has had a large message is idle before it
	// gives its memory back.
	idlePause = 100 * time.Millisecond
	// sendBuffer is how much the system keeps for a client that does not read. By itself
	// it would keep up to 4 MiB, and the gateway would not see it for so long.
	sendBuffer = 256 << 10
	// usualFields is more than most heads have.
	usualFields = 64
)

// A conn is a client's connection. Its requests are answered one after the other by the
// goroutine that serves it.
type conn struct {
	net.Conn

	server  *Server
	handler Handler
	raw     syscall.RawConn // nil when it has none
	in      buffer
	out     []byte // what is written next; kept for its space
	readBy  deadline
	// writeBy is when the client must have taken what was written last.
	writeBy deadline
	surplus bool // there are too many connections without this one

	// What follows belongs to the request under way.
	x        Exchange
	decision Decision
	res      Response
	toHEAD   bool
	unread   body    // what was not read of the body; upload's while it runs
	sent     bool    // the backend took all of the request
	upload   *upload // nil for a body that needs none

	mu sync.Mutex // guards what follows; others look at it, and end the request
	// phase and turn say what the connection does, and how often that changed.
	phase phase
	turn  uint64
	// seen is the turn that the patrol saw last.
	seen    uint64
	up      *upstream          // that the request was sent on
	giveUp  context.CancelFunc // ends what the request waits for in await
	cause   error              // why others have ended the request
	watcher chan struct{}
}

func newConn(s *Server, client net.Conn) *conn {
	c := &conn{Conn: client, server: s, handler: s.cfg.NewHandler(client.RemoteAddr())}
	c.readBy.set, c.writeBy.set = client.SetReadDeadline, client.SetWriteDeadline
	if tcp, ok := client.(*net.TCPConn); ok {
		c.raw, _ = tcp.SyscallConn() // fails on a closed connection, as the read will
		_ = tcp.SetWriteBuffer(sendBuffer)
	}
	return c
}

// serve answers requests until the connection ends, and closes it.
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

// serveOne waits for a request and answers it. When none may follow, Exchange.End says
// why.
func (c *conn) serveOne() {
	x := &c.x
	*x = Exchange{conn: c, Surplus: c.surplus, Request: Request{Fields: x.Fields[:0]}, ToBackend: x.ToBackend[:0], ToClient: x.ToClient[:0]}
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
	c.toHEAD = string(x.Method) == http.MethodHead
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

// readHead waits for the next request and returns the length of its head, which
// is then in the buffer. The error says that there is none.
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
		for bytes.HasPrefix(c.in.bytes(), []byte("\r\n")) { // as a server should, says RFC 9112
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
			return 0, &Error{http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("headers: are larger than %d bytes, with the request line, which is a fixed limit", most)}, nil
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

// awaitRequest waits until something arrives. A connection that stays idle keeps as
// little memory as one that had only small messages.
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
	return len(c.in.b) > smallBuffer || cap(c.out)+cap(c.x.ToBackend) > smallBuffer || cap(c.x.Fields)+cap(c.res.Fields) > 2*usualFields
}

// lighten lets go of what a large message has needed, but for bytes that are not used
// yet. The heads are gone then; only their numbers stay.
func (c *conn) lighten() {
	if !c.isHeavy() {
		return
	}
	c.in.shrink()
	c.out, c.x.ToBackend = nil, nil
	c.x.Fields, c.x.Method, c.x.Target, c.x.Host = nil, nil, nil, nil
	c.res.Fields, c.res.Reason = nil, nil
}

// answer sends an answer of the gateway's own.
func (c *conn) answer(a *Answer) {
	c.x.End = c.endOfAnswer()
	c.x.Status = a.Status
	to := c.out[:0]
	to = append(to, "HTTP/1.1 "...)
	to = strconv.AppendInt(to, int64(a.Status), 10)
	to = append(to, ' ')
	to = append(to, a.Reason...)
	to = append(to, "\r\n"...)
	to = appendDate(to)
	to = append(to, a.Head...)
	to = append(to, c.x.ToClient...)
	to = appendLength(to, int64(len(a.Body)))
	to = c.appendConnection(to)
	to = append(to, "\r\n"...)
	if !c.toHEAD {
		to = append(to, a.Body...)
	}
	c.out = to
	_ = c.write(to) // which says why it fails
}

// endOfAnswer reads what is left of the request, if that is to be done before it is
// answered, and returns what becomes of the connection then.
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

// write sends b, a part of an answer, to the client. It fails when the client is gone,
// or does not take it within Config.WriteTimeout, or the stream was ended.
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

// allowWrite sets the deadline for one write, unless the request is a stream that others
// have ended: endStream sets one that is past.
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

// hangUp closes the connection as Exchange.End demands.
func (c *conn) hangUp() {
	switch end := c.x.End; {
	case end == Unread, end == Closing && c.in.len() > 0:
		c.linger()
	case end == ClientStalled, end > Unread && c.endsByClosing():
		// In the first case the system lets go of what it has for the client. In the second
		// an answer would look whole that is not.
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	c.Close()
}
