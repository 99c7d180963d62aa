package h1

import (
	"io"
	"sync/atomic"
	"time"
)

// An upload sends the part of a body that has not arrived together with its head,
// in a goroutine of its own: the backend may answer before the end of it.
type upload struct {
	done chan struct{} // closed when it has ended

	// readWhole says that the body was read to its end; what is left to do is one
	// write.
	readWhole atomic.Bool

	// What follows is valid once done.
	sent       bool  // all of it
	clientErr  error // why the client's body could not be read
	backendErr error // why it could not be sent
}

// startUpload begins to send what was not read of the body.
func (c *conn) startUpload(up *upstream) {
	c.x.Line() // the head is about to be overwritten
	c.upload = &upload{done: make(chan struct{})}
	_ = c.SetReadDeadline(c.x.Began.Add(c.server.cfg.BodyTimeout))
	c.readBy.stale = true
	go c.upload.run(c, up)
}

// stop makes the upload end, if it has not, and waits for that. Its connection to
// the backend must be closed.
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
		up.abort() // wakes who waits for the answer
		return
	}
	u.sent = u.backendErr == nil
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != sending && c.phase != duplex {
		return // the answer has ended, or failed
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

// bodyError returns what the handler gets of an error that the client's body has met.
func bodyError(err error) error {
	if isTimeout(err) {
		return ErrBodyTimeout
	}
	return errClientGone
}

// write sends b to the backend and reports whether it could.
func (u *upload) write(c *conn, up *upstream, b []byte) bool {
	up.writeBy.in(time.Now(), c.server.cfg.BackendTimeout)
	n, err := up.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	u.backendErr = err
	return err == nil
}
