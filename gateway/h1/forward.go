package h1

import (
	"errors"
	"net/http"
	"os"
	"slices"
	"time"
)

const (
	smallBody = 16 << 10
	// bodyPause is how long to wait for the rest of a small body.
	bodyPause = 5 * time.Millisecond
	// mostInterim bounds the answers before the final one.
	mostInterim = 8
)

// forward sends the request to a backend and relays the answer.
func (c *conn) forward() {
	if c.x.Length > c.decision.MaxBody {
		c.fail(nil, ErrTooLarge)
		return
	}
	c.out = c.appendRequest(c.out[:0])
	if c.unread.left > 0 {
		begin := c.in.take(int(min(c.unread.left, int64(c.in.len()))))
		c.out = append(c.out, begin...)
		c.unread.left -= int64(len(begin))
	}
	if c.unread.left > 0 && c.unread.left <= smallBody && !c.x.Continue {
		c.awaitBody()
	}
	for fresh := false; ; fresh = true {
		up, err := c.connect(fresh)
		if err != nil {
			c.fail(nil, err)
			return
		}
		c.x.Pool, c.x.Reused = up.pool, up.reused
		again, err := c.try(up)
		if again {
			c.server.retries.Add(1)
			up.close()
			if cause := c.release(); cause == nil {
				continue
			}
		}
		if err != nil {
			c.fail(up, err)
			return
		}
		c.relay(up)
		return
	}
}

// appendRequest appends the head that the backend gets.
func (c *conn) appendRequest(to []byte) []byte {
	x := &c.x
	to = append(to, x.Method...)
	to = append(to, ' ')
	to = append(to, x.Target...)
	to = append(to, " HTTP/1.1\r\nHost: "...)
	to = append(to, x.Host...)
	to = append(to, "\r\n"...)
	for i := range x.Fields {
		if field := &x.Fields[i]; field.Kind == Plain && !field.Dropped || field.Kind == Date {
			to = AppendField(to, field.Name, field.Value)
		}
	}
	to = append(to, x.ToBackend...)
	switch {
	case x.Length == Chunked:
		to = append(to, "Transfer-Encoding: chunked\r\n"...)
	case x.HasLength:
		to = appendLength(to, x.Length)
	}
	if x.Continue {
		to = append(to, "Expect: 100-continue\r\n"...)
	}
	return append(to, "\r\n"...)
}

// awaitBody appends to out what arrives at once of the rest of a small body. Many clients, among
// them net/http's and so Traefik, send a body right after its head but in a packet of its own.
// Two packets to the backend would cost an upload here and another read there.
func (c *conn) awaitBody() {
	_ = c.SetReadDeadline(time.Now().Add(bodyPause))
	c.readBy.stale = true
	rest := int(c.unread.left)
	c.out = slices.Grow(c.out, rest)
	for rest > 0 {
		n, err := c.Read(c.out[len(c.out) : len(c.out)+rest])
		c.out = c.out[:len(c.out)+n]
		if rest -= n; err != nil {
			break // the upload gets it again
		}
	}
	c.unread.left = int64(rest)
}

// try sends the request on up and reads the head of the answer. On failure, again reports whether
// the request may be sent once more: the connection was kept from an earlier request, and either
// nothing of this one was sent, or it changes nothing and nothing of an answer was received.
func (c *conn) try(up *upstream) (again bool, err error) {
	next := waiting
	if c.unread.left != 0 {
		next = sending
	}
	if err := c.begin(up, next); err != nil {
		return false, err
	}
	now := time.Now() // to connect may have taken longer than the timeout
	up.writeBy.in(now, c.server.cfg.BackendTimeout)
	n, err := up.Write(c.out)
	switch {
	case isTimeout(err):
		return false, err
	case err != nil && n == 0 && up.reused:
		return true, err
	}
	c.sent = err == nil // a backend may answer before it has read the whole request
	switch {
	case c.sent && c.unread.left != 0:
		c.sent = false
		up.readBy.none() // the upload sets it in the end
		c.startUpload(up)
	case c.decision.Stream != nil, c.decision.Late:
		up.readBy.none()
	default:
		up.readBy.in(now, c.server.cfg.BackendTimeout)
	}
	c.res.Status = 0
	err = c.readAnswer(up)
	if err == nil {
		c.x.Answered = time.Now()
		return false, nil
	}
	safe := c.x.Length == 0 && (c.toHEAD || string(c.x.Method) == http.MethodGet)
	nothing := c.res.Status == 0 && up.in.len() == 0
	return up.reused && safe && nothing && !isTimeout(err), err
}

// readAnswer reads the head of the final answer, and relays interim answers.
func (c *conn) readAnswer(up *upstream) error {
	for range mostInterim {
		if err := up.readHead(&c.res); err != nil {
			return err
		}
		if !c.res.Interim() {
			return nil
		}
		if c.res.Status == http.StatusSwitchingProtocols {
			return errors.New("the backend switches protocols")
		}
		if c.x.Minor == 0 || c.res.Status == http.StatusContinue && !c.x.Continue {
			continue // the client does not expect it
		}
		head := c.appendEndToEnd(appendStatus(nil, c.res.Status, c.res.Reason))
		if c.write(append(head, "\r\n"...)) != nil {
			return errClientGone
		}
	}
	return errors.New("the backend does not come to its answer")
}

// fail lets the handler answer a request that got no answer from a backend, unless the client is
// gone. up may be nil.
func (c *conn) fail(up *upstream, err error) {
	if up != nil {
		up.abort()
	}
	if cause := c.release(); cause != nil {
		err = cause
	}
	if u := c.upload; u != nil {
		u.stop(c)
		switch {
		case u.clientErr != nil:
			err = u.clientErr
		case isTimeout(u.backendErr):
			err = u.backendErr
		}
	}
	c.x.Err = err
	switch {
	case errors.Is(err, errAborted):
		c.x.End = Interrupted
	case errors.Is(err, errClientGone):
		if c.x.End == Open { // else write has set it
			c.x.End = ClientGone
		}
	default:
		c.decision = c.handler.Decide(&c.x)
		c.answer(c.decision.Answer)
	}
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
