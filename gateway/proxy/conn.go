package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"kvstore/gateway/access"
	"kvstore/gateway/wire"
	"kvstore/internal/problem"
	"kvstore/internal/telemetry"
)

const (
	// A client that still sends when its connection ends is read on for this time and
	// this many bytes, or until it pauses: closing at once would take the answer away
	// from it (RFC 9112, section 9.6).
	lingerTime  = 10 * time.Second
	lingerPause = time.Second
	lingerBytes = 64 << 20
	// idlePause is how long a connection that has had a large message is idle before it
	// gives its memory back.
	idlePause = 100 * time.Millisecond
	// sendBuffer is how much the system keeps for a client that does not read; by
	// itself it would keep up to 4 MiB, and the gateway would not see it for so long.
	sendBuffer = 256 << 10
)

// A conn is a client's connection. Its requests are answered one after the other
// by the goroutine that serves it.
type conn struct {
	net.Conn

	p      *Proxy
	raw    syscall.RawConn // nil when it has none
	ip     string          // the client's
	in     buffer
	out    []byte // what is written next; kept for its space
	readBy deadline
	// writeBy is when the client must have taken what was written last.
	writeBy deadline
	linger  bool // the client may still be sending when the connection ends
	// surplus says that there are too many connections without this one.
	surplus bool

	exchange

	mu sync.Mutex // guards what follows; others look at it, and end it
	// phase and turn say what the connection does, and how often that changed.
	phase phase
	turn  uint64
	// seen is the turn that the patrol saw last.
	seen    uint64
	up      *upstream          // of the request under way
	giveUp  context.CancelFunc // ends what the request waits for in await
	cause   error              // why others have ended the request
	watcher chan struct{}
}

// An exchange is what belongs to one request.
type exchange struct {
	began  time.Time
	who    netip.Addr // sends it, once that was asked
	req    wire.Request
	res    wire.Response
	id     string
	line   string // method and target for the log, once req has lost them
	toHEAD bool
	secure bool // the client came over TLS
	// unread is how many bytes of the body have not been taken for the backend, or
	// wire.Chunked.
	unread int64
	broken bool // the request could not be sent whole
	stream bool
	// late says that the answer begins when a copy of the whole store has been made.
	late   bool
	route  access.Match
	grant  access.Grant
	status int // of the answer, once it has begun
	upload *upload
	seenAs observation
}

func newConn(p *Proxy, client net.Conn) *conn {
	c := &conn{Conn: client, p: p}
	c.readBy.set, c.writeBy.set = client.SetReadDeadline, client.SetWriteDeadline
	if tcp, ok := client.(*net.TCPConn); ok {
		c.raw, _ = tcp.SyscallConn() // fails on a closed connection, as the read will
		_ = tcp.SetWriteBuffer(sendBuffer)
	}
	if host, _, err := net.SplitHostPort(client.RemoteAddr().String()); err == nil {
		c.ip = host
	}
	return c
}

// serve answers requests until the connection ends, and closes it.
func (c *conn) serve() {
	defer func() {
		if cause := recover(); cause != nil {
			c.p.logger.Error("panic", "cause", fmt.Sprint(cause), "stack", string(debug.Stack()), "request_id", c.id)
			c.abort()
		}
	}()
	defer c.observed() // of a request that panicked
	for c.serveOne() {
		c.ended()
	}
	c.ended()
	if c.linger || c.in.len() > 0 {
		c.lingerOn()
	}
	c.Close()
}

// serveOne answers one request and reports whether another may follow.
func (c *conn) serveOne() bool {
	c.exchange = exchange{req: c.req, res: c.res} // for their space
	n, malformed, err := c.readHead()
	if err != nil {
		return false
	}
	if malformed == nil {
		malformed = c.req.Parse(c.in.take(n))
	}
	if malformed != nil {
		return c.refuse(malformed)
	}
	c.id = requestID(c.req.Fields)
	c.unread = c.req.Length
	c.toHEAD = string(c.req.Method) == http.MethodHead
	c.route = access.Find(c.req.Path())
	c.secure = cameOverTLS(c.req.Fields)
	c.observe()
	return c.dispatch()
}

// readHead waits for the next request and returns the length of its head, which
// is then in the buffer. The error says that there is none.
func (c *conn) readHead() (n int, malformed *wire.Error, err error) {
	if c.in.len() == 0 {
		if err := c.awaitRequest(); err != nil {
			return 0, nil, err
		}
	}
	c.began = time.Now()
	checked := 0
	for {
		for bytes.HasPrefix(c.in.bytes(), []byte("\r\n")) { // as a server should, says RFC 9112
			c.in.take(2)
		}
		n, malformed := wire.HeadLength(c.in.bytes(), checked)
		switch {
		case malformed != nil || n > 0:
			return n, malformed, nil
		case time.Since(c.began) > c.p.cfg.HeaderTimeout:
			return 0, c.slowHead(), nil
		}
		checked = c.in.len()
		c.readBy.in(c.began, c.p.cfg.HeaderTimeout)
		switch err := c.in.fill(c.Conn, telemetry.MaxHeaderBytes); {
		case errors.Is(err, errFull):
			return 0, errLargeHead, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return 0, c.slowHead(), nil
		case err != nil:
			return 0, nil, err
		}
	}
}

// awaitRequest waits until something arrives. A connection that stays idle keeps as
// little memory as one that had only small messages.
func (c *conn) awaitRequest() error {
	patience := telemetry.IdleTimeout
	if c.surplus {
		patience = turnAwayTime
	}
	if c.isHeavy() {
		c.readBy.in(time.Now(), idlePause)
		if !c.becomeIdle() {
			return net.ErrClosed
		}
		err := c.in.fill(c.Conn, telemetry.MaxHeaderBytes)
		if !isTimeout(err) {
			c.become(reading)
			return err
		}
		c.lighten()
	}
	c.readBy.in(time.Now(), patience)
	if !c.becomeIdle() {
		return net.ErrClosed
	}
	err := c.in.fill(c.Conn, telemetry.MaxHeaderBytes)
	c.become(reading)
	return err
}

// usualFields is how many fields a head has at most, but for a few.
const usualFields = 64

func (c *conn) isHeavy() bool {
	return len(c.in.b) > smallBuffer || cap(c.out) > smallBuffer || cap(c.req.Fields)+cap(c.res.Fields) > 2*usualFields
}

// lighten lets go of what a large message has needed, but for bytes that are not used
// yet. The heads are gone then; only their numbers stay.
func (c *conn) lighten() {
	if !c.isHeavy() {
		return
	}
	c.in.shrink()
	c.out = nil
	c.req.Fields, c.req.Method, c.req.Target, c.req.Host = nil, nil, nil, nil
	c.res.Fields, c.res.Reason = nil, nil
}

func (c *conn) slowHead() *wire.Error {
	return &wire.Error{
		Status: http.StatusRequestTimeout,
		Reason: fmt.Sprintf("headers: did not arrive within %s (KV_HEADER_TIMEOUT)", c.p.cfg.HeaderTimeout),
	}
}

var errLargeHead = &wire.Error{
	Status: http.StatusRequestHeaderFieldsTooLarge,
	Reason: fmt.Sprintf("headers: are larger than %d bytes, with the request line, which is a fixed limit", telemetry.MaxHeaderBytes),
}

// noRequest is logged where a request has its method.
const noRequest = "malformed"

// refuse answers what is no request. What follows it cannot be told apart, so the
// connection ends.
func (c *conn) refuse(malformed *wire.Error) bool {
	c.req.KeepAlive = false
	c.linger = true
	c.id = telemetry.RequestIDOr(nil)
	c.line = noRequest
	c.observe()
	detail := malformed.Reason
	if malformed.Status != http.StatusRequestTimeout && malformed.Status != http.StatusRequestHeaderFieldsTooLarge {
		detail = "The request is not valid HTTP: " + detail
	}
	return c.answerProblem(problem.New(malformed.Status, "malformed_request", detail))
}

// write sends b, a part of an answer, to the client. One that does not take it within
// KV_WRITE_TIMEOUT loses its connection, with what the system keeps for it.
func (c *conn) write(b []byte) error {
	c.allowWrite()
	_, err := c.Write(b)
	if isTimeout(err) && !c.streamEnded() {
		c.p.logger.WarnContext(c.context(), "a client does not take its answer; it was cut",
			"remote", c.RemoteAddr().String(), "KV_WRITE_TIMEOUT", c.p.cfg.WriteTimeout.String())
		c.linger = false
		c.in = buffer{}
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	return err
}

// allowWrite sets the deadline for one write, unless the request is a stream that others
// have ended: endStream sets one that is past.
func (c *conn) allowWrite() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stream || c.cause == nil {
		c.writeBy.in(time.Now(), c.p.cfg.WriteTimeout)
	}
}

func (c *conn) streamEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stream && c.cause != nil
}

// lingerOn lets the client read the answer before the connection is closed.
func (c *conn) lingerOn() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		c.skip(lingerBytes)
	}
}

// skip reads on for at most left bytes, for lingerTime, and until a pause of lingerPause,
// and reports whether it came to the end of the bytes.
func (c *conn) skip(left int64) bool {
	scratch, _ := largeBuffers.Get().(*[largeBuffer]byte)
	defer largeBuffers.Put(scratch)
	c.readBy.stale = true
	for begin := time.Now(); left > 0 && time.Since(begin) < lingerTime; {
		_ = c.SetReadDeadline(time.Now().Add(lingerPause))
		n, err := c.Read(scratch[:min(left, largeBuffer)])
		if left -= int64(n); err != nil {
			break
		}
	}
	return left == 0
}

// ended observes and logs a request, if there was one.
func (c *conn) ended() {
	if c.status != 0 {
		c.logRequest()
	}
	c.observed()
}
