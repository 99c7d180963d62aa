package h1

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// relay passes on the answer whose head was read. If the answer breaks off, so does the client's
// connection, or the answer would look whole.
func (c *conn) relay(up *upstream) {
	if u := c.upload; u != nil && u.readWhole.Load() {
		<-u.done
		c.sent = u.sent
	}
	none := c.res.NoBody(c.toHEAD)
	switch {
	case !c.sent:
		c.x.End = Unread
	case !none && c.endsByClosing(), !c.x.KeepAlive, c.server.leaving.Load():
		c.x.End = Closing
	}
	c.out = c.appendAnswer(c.out[:0], none)
	var err error
	switch {
	case none || c.res.Length == 0:
		c.finish(up, c.out)
	case c.res.Length == Chunked:
		err = c.relayChunks(up)
	case c.res.Length == UntilClose:
		err = c.relayUntilClose(up)
	default:
		err = c.relayBytes(up, c.res.Length)
	}
	switch {
	case err == nil:
	case c.x.Status == 0:
		c.x.End = Open
		c.fail(up, err)
	default:
		c.breakOff(up, err)
	}
}

// endsByClosing reports whether the end of the connection is the end of the answer.
func (c *conn) endsByClosing() bool {
	return c.res.Length == UntilClose || c.res.Length == Chunked && c.x.Minor == 0
}

// appendAnswer appends the head that the client gets.
func (c *conn) appendAnswer(to []byte, none bool) []byte {
	res := &c.res
	to = c.appendEndToEnd(appendStatus(to, res.Status, res.Reason))
	if !slices.ContainsFunc(res.Fields, func(f Field) bool { return f.Kind == Date }) { // RFC 9110, section 6.6.1
		to = appendDate(to)
	}
	to = append(to, c.x.ToClient...)
	switch {
	case res.HasLength() && res.Status != http.StatusNoContent:
		to = appendLength(to, res.Length)
	case !none && res.Length == Chunked && c.x.Minor == 1:
		to = append(to, "Transfer-Encoding: chunked\r\n"...)
	}
	return append(c.appendConnection(to), "\r\n"...)
}

func appendStatus[R string | []byte](to []byte, status int, reason R) []byte {
	to = append(to, "HTTP/1.1 "...)
	to = strconv.AppendInt(to, int64(status), 10)
	to = append(to, ' ')
	to = append(to, reason...)
	return append(to, "\r\n"...)
}

// appendEndToEnd appends the backend's headers, except those of its connection and those that are
// replaced.
func (c *conn) appendEndToEnd(to []byte) []byte {
	for i := range c.res.Fields {
		switch field := &c.res.Fields[i]; field.Kind {
		case Plain:
			if !field.Dropped && !c.server.replaced.Find(field.Name) {
				to = AppendField(to, field.Name, field.Value)
			}
		case Date, Expect:
			to = AppendField(to, field.Name, field.Value)
		case Host, ContentLength, TransferEncoding, Connection, HopByHop:
		}
	}
	return to
}

func appendDate(to []byte) []byte {
	return append(time.Now().UTC().AppendFormat(append(to, "Date: "...), http.TimeFormat), "\r\n"...)
}

func appendLength(to []byte, length int64) []byte {
	to = append(to, "Content-Length: "...)
	to = strconv.AppendInt(to, length, 10)
	return append(to, "\r\n"...)
}

// pass sends a part of the answer to the client.
func (c *conn) pass(b []byte) error {
	c.x.Status = c.res.Status
	if c.write(b) != nil {
		return errClientGone
	}
	return nil
}

// finish sends the last part of the answer. Before that it frees the connection to the backend for
// other clients, and reads on if the whole answer is an early refusal.
func (c *conn) finish(up *upstream, last []byte) {
	_ = c.giveBack(up, c.sent && c.res.KeepAlive && up.in.len() == 0)
	if !c.sent && c.x.Status == 0 && c.res.Status >= http.StatusBadRequest {
		c.readOn()
	}
	_ = c.pass(last)
}

// giveBack keeps the connection to the backend if another request can use it, and closes it
// otherwise. It returns why another goroutine ended the request, or nil.
func (c *conn) giveBack(up *upstream, usable bool) error {
	if !usable {
		up.abort()
	}
	cause := c.release()
	if cause != nil {
		up.abort()
		usable = false
	}
	if c.upload != nil && !c.sent {
		c.upload.stop(c)
	}
	if usable {
		up.pool.put(up, c.x.Began)
	}
	return cause
}

// relayBytes relays a body of a known length.
func (c *conn) relayBytes(up *upstream, left int64) error {
	begin := up.in.take(int(min(left, int64(up.in.len()))))
	c.out = append(c.out, begin...)
	if left -= int64(len(begin)); left == 0 {
		c.finish(up, c.out)
		return nil
	}
	if err := c.pass(c.out); err != nil {
		return err
	}
	scratch, _ := largeBuffers.Get().(*[largeBuffer]byte)
	defer largeBuffers.Put(scratch)
	for {
		c.awaitPart(up)
		n, err := up.Read(scratch[:min(left, largeBuffer)])
		if left -= int64(n); left == 0 {
			c.finish(up, scratch[:n])
			return nil
		}
		if n > 0 {
			if err := c.pass(scratch[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// relayChunks relays a chunked body. A client of HTTP/1.0 gets it without the chunks.
func (c *conn) relayChunks(up *upstream) error {
	var chunks Chunks
	plain := c.x.Minor == 0
	for first := true; ; first = false {
		for up.in.len() > 0 && !chunks.Ended() {
			data, used, err := chunks.Next(up.in.bytes())
			if err != nil {
				return err
			}
			if plain {
				c.out = append(c.out, data...)
			} else {
				c.out = AppendChunk(c.out, data)
			}
			up.in.take(used)
		}
		if chunks.Ended() {
			if !plain {
				c.out = AppendLastChunk(c.out)
			}
			c.finish(up, c.out)
			return nil
		}
		if err := c.passOut(); err != nil {
			return err
		}
		if first && c.decision.Stream != nil {
			c.x.Line() // the head will be gone
			c.lighten()
		}
		if err := c.fillPart(up); err != nil {
			return err
		}
	}
}

// relayUntilClose relays a body that ends when the backend closes the connection. The client
// learns of the end in the same way, and cannot tell either whether the body is whole.
func (c *conn) relayUntilClose(up *upstream) error {
	for {
		c.out = append(c.out, up.in.take(up.in.len())...)
		if err := c.passOut(); err != nil {
			return err
		}
		err := c.fillPart(up)
		if errors.Is(err, io.EOF) {
			_ = c.giveBack(up, false)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// passOut sends out to the client.
func (c *conn) passOut() error {
	if len(c.out) == 0 {
		return nil
	}
	err := c.pass(c.out)
	c.out = c.out[:0]
	return err
}

// fillPart waits for the next part of the answer.
func (c *conn) fillPart(up *upstream) error {
	c.awaitPart(up)
	return up.in.fill(up.Conn, largeBuffer)
}

// awaitPart sets the deadline for the next part of the answer. There is none for a stream, nor
// while the client still sends.
func (c *conn) awaitPart(up *upstream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == sending {
		c.phase = duplex
	}
	if c.decision.Stream != nil || c.phase == duplex {
		up.readBy.none()
		return
	}
	up.readBy.in(time.Now(), c.server.cfg.BackendTimeout)
}

// breakOff ends an answer that failed with err.
func (c *conn) breakOff(up *upstream, err error) {
	cause := c.giveBack(up, false)
	switch {
	case errors.Is(err, errClientGone): // write has said why
	case cause != nil && !errors.Is(cause, errClientGone):
		c.x.End, c.x.Err = Interrupted, cause
	case cause != nil, c.upload != nil && c.upload.clientErr != nil:
		c.x.End = ClientGone
	default:
		c.x.End, c.x.Err = BackendBroke, err
	}
}
