package proxy

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"kvstore/gateway/wire"
)

var errTooLarge = errors.New("the body is over the limit")

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

// startUpload begins to send rest bytes of the body, or all of a chunked one.
func (c *conn) startUpload(up *upstream, rest int64) {
	c.describe() // the head is about to be overwritten
	c.upload = &upload{done: make(chan struct{})}
	_ = c.SetReadDeadline(c.began.Add(c.p.cfg.BodyTimeout))
	c.readBy.stale = true
	go c.upload.run(c, up, rest)
}

// stop makes the upload end, if it has not, and waits for that. Its connection to
// the backend must be closed.
func (u *upload) stop(c *conn) {
	_ = c.SetReadDeadline(longAgo)
	<-u.done
	c.readBy.stale = true
}

func (u *upload) run(c *conn, up *upstream, rest int64) {
	defer close(u.done)
	if rest == wire.Chunked {
		u.sendChunked(c, up)
	} else {
		u.sendPlain(c, up, rest)
	}
	if u.clientErr != nil || isTimeout(u.backendErr) {
		up.abort() // wakes who waits for the answer
		return
	}
	u.sent = u.backendErr == nil
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.phase
	if before != sending && before != duplex {
		return // the answer has ended, or failed
	}
	c.phase = waiting
	c.turn++
	if !c.stream {
		up.readBy.in(time.Now(), c.p.cfg.BackendTimeout)
	}
}

// awaitPart gives the backend KV_BACKEND_TIMEOUT for the next part of its answer, of
// which the head is here. A stream may be silent, and so may any answer while the
// client still sends.
func (c *conn) awaitPart(up *upstream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == sending {
		c.phase = duplex
	}
	if c.stream || c.phase == duplex {
		up.readBy.none()
		return
	}
	up.readBy.in(time.Now(), c.p.cfg.BackendTimeout)
}

func (u *upload) sendPlain(c *conn, up *upstream, rest int64) {
	scratch, _ := largeBuffers.Get().(*[largeBuffer]byte)
	defer largeBuffers.Put(scratch)
	for rest > 0 {
		n, err := c.Read(scratch[:min(rest, largeBuffer)])
		if rest -= int64(n); rest == 0 {
			u.readWhole.Store(true)
		}
		if n > 0 && !u.write(c, up, scratch[:n]) {
			return
		}
		if err != nil && rest > 0 {
			u.clientErr = err
			return
		}
	}
}

func (u *upload) sendChunked(c *conn, up *upstream) {
	var chunks wire.Chunks
	var out []byte
	size, limit := int64(0), c.bodyLimit().Bytes
	for {
		out = out[:0]
		for c.in.len() > 0 && !chunks.Ended() {
			data, used, err := chunks.Next(c.in.bytes())
			if size += int64(len(data)); err == nil && size <= limit {
				out = wire.AppendChunk(out, data)
				c.in.take(used)
				continue
			}
			if u.clientErr = errTooLarge; err != nil {
				u.clientErr = err
			}
			return
		}
		if chunks.Ended() {
			out = wire.AppendLastChunk(out)
			u.readWhole.Store(true)
		}
		if len(out) > 0 && !u.write(c, up, out) || chunks.Ended() {
			return
		}
		if err := c.in.fill(c.Conn, largeBuffer); err != nil {
			u.clientErr = err
			return
		}
	}
}

// write sends b to the backend and reports whether it could.
func (u *upload) write(c *conn, up *upstream, b []byte) bool {
	up.writeBy.in(time.Now(), c.p.cfg.BackendTimeout)
	n, err := up.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	u.backendErr = err
	return err == nil
}
