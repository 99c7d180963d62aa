package h1

import (
	"io"
	"sync/atomic"
	"time"
)

// When a request is answered before all of it was read, the rest is read for at most this
// time and this many bytes, or until the client pauses. If the connection were closed at
// once, the client could lose the answer (RFC 9112, section 9.6). internal/telemetry does the
// same for clients of a backend; neither package should depend on the other.
const (
	readOnTime  = 10 * time.Second
	readOnPause = time.Second
	readOnBytes = 64 << 20
)

// A body is the part of a body that was not read.
type body struct {
	left   int64 // bytes, or Chunked
	chunks Chunks
}

// readOn reads the rest of the body within the bounds above, before the request is answered,
// and reports whether it reached the end. A proxy in front of the gateway stops sending when
// the answer comes, so that its own client would find a broken connection and no answer. A
// body that is known to be too long, or whose client waits for 100 (Continue), is not read.
func (c *conn) readOn() bool {
	if c.x.Continue || c.unread.left > readOnBytes {
		return false
	}
	begin := time.Now()
	for read := int64(0); c.unread.left != 0; {
		if c.in.len() > 0 {
			n, err := c.unread.skip(c.in.bytes())
			if err != nil {
				return false
			}
			c.in.take(n)
			read += int64(n)
			continue
		}
		if read >= readOnBytes || time.Since(begin) >= readOnTime {
			return false
		}
		c.readBy.stale = true
		_ = c.SetReadDeadline(time.Now().Add(readOnPause))
		if c.in.fill(c.Conn, largeBuffer) != nil {
			return false
		}
	}
	return true
}

// skip returns how many of the bytes belong to the body, and takes them as read.
func (b *body) skip(from []byte) (n int, err *Error) {
	if b.left != Chunked {
		n = int(min(b.left, int64(len(from))))
		b.left -= int64(n)
		return n, nil
	}
	for n < len(from) && !b.chunks.Ended() {
		_, used, err := b.chunks.Next(from[n:])
		if err != nil {
			return n, err
		}
		n += used
	}
	if b.chunks.Ended() {
		b.left = 0
	}
	return n, nil
}

// linger gives the client time to read the answer while it still sends.
func (c *conn) linger() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.in = buffer{}
	c.x.Continue = false
	c.unread = body{left: readOnBytes}
	c.readOn()
}

// An upload sends the part of a body that did not arrive with the head. It runs in a
// goroutine of its own, since the backend may answer before the end of the body.
type upload struct {
	done chan struct{} // closed when it has ended

	// readWhole says that the body was read to its end. At most one write is left.
	readWhole atomic.Bool

	// These are valid once done is closed.
	sent       bool  // the whole body
	clientErr  error // why the body could not be read
	backendErr error // why it could not be sent
}

// startUpload begins to send the rest of the body.
func (c *conn) startUpload(up *upstream) {
	c.x.Line() // the head will be overwritten
	c.upload = &upload{done: make(chan struct{})}
	_ = c.SetReadDeadline(c.x.Began.Add(c.server.cfg.BodyTimeout))
	c.readBy.stale = true
	go c.upload.run(c, up)
}

// stop ends the upload. The connection to the backend must be closed.
func (u *upload) stop(c *conn) {
	_ = c.SetReadDeadline(longAgo)
	<-u.done
	c.readBy.stale = true
}

func (u *upload) run(c *conn, up *upstream) {
	defer close(u.done)
	if c.unread.left == Chunked {
		u.sendChunked(c, up)
	} else {
		u.sendPlain(c, up)
	}
	if u.clientErr != nil || isTimeout(u.backendErr) {
		up.abort() // wakes the reader of the answer
		return
	}
	u.sent = u.backendErr == nil
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != sending && c.phase != duplex {
		return // the answer has ended
	}
	c.phase = waiting
	c.turn++
	if c.decision.Stream == nil {
		up.readBy.in(time.Now(), c.server.cfg.BackendTimeout)
	}
}

func (u *upload) sendPlain(c *conn, up *upstream) {
	scratch, _ := largeBuffers.Get().(*[largeBuffer]byte)
	defer largeBuffers.Put(scratch)
	for c.unread.left > 0 {
		n, err := c.Read(scratch[:min(c.unread.left, largeBuffer)])
		if c.unread.left -= int64(n); c.unread.left == 0 {
			u.readWhole.Store(true)
		}
		if n > 0 && !u.write(c, up, scratch[:n]) {
			return
		}
		if err != nil && c.unread.left > 0 {
			u.clientErr = bodyError(err)
			return
		}
	}
}

func (u *upload) sendChunked(c *conn, up *upstream) {
	chunks := &c.unread.chunks
	var out []byte
	for size := int64(0); ; {
		out = out[:0]
		for c.in.len() > 0 && !chunks.Ended() {
			data, used, err := chunks.Next(c.in.bytes())
			if err != nil {
				u.clientErr = ErrBodyMalformed
				return
			}
			c.in.take(used)
			if size += int64(len(data)); size > c.decision.MaxBody {
				u.clientErr = ErrTooLarge
				return
			}
			out = AppendChunk(out, data)
		}
		if chunks.Ended() {
			out = AppendLastChunk(out)
			c.unread.left = 0
			u.readWhole.Store(true)
		}
		if len(out) > 0 && !u.write(c, up, out) || chunks.Ended() {
			return
		}
		if err := c.in.fill(c.Conn, largeBuffer); err != nil {
			u.clientErr = bodyError(err)
			return
		}
	}
}

// bodyError translates an error of reading the body.
func bodyError(err error) error {
	if isTimeout(err) {
		return ErrBodyTimeout
	}
	return errClientGone
}

// write sends b to the backend and reports whether that succeeded.
func (u *upload) write(c *conn, up *upstream, b []byte) bool {
	up.writeBy.in(time.Now(), c.server.cfg.BackendTimeout)
	n, err := up.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	u.backendErr = err
	return err == nil
}
