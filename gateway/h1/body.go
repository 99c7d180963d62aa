package h1

import "time"

// A client that still sends when its request is answered is read on for this time and
// this many bytes, or until it pauses: closing at once would take the answer away from it
// (RFC 9112, section 9.6). A backend does the same for those who reach it directly
// (internal/telemetry); neither package is to know the other.
const (
	readOnTime  = 10 * time.Second
	readOnPause = time.Second
	readOnBytes = 64 << 20
)

// A body is what was not read of one.
type body struct {
	left   int64  // bytes, or Chunked
	chunks Chunks // of a chunked one
}

// readOn reads what is left of the body within the bounds above and reports whether it
// came to the end. It is for a request that is answered before it was read whole: a proxy
// in front of the gateway stops sending when the answer comes, and its own client would
// then find a broken connection in place of the answer. It does not read a longer body,
// nor one whose client waits for 100 (Continue).
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

// skip drops what b begins with of the body and returns how much that was.
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

// linger lets the client read the answer before the connection is closed, though it may
// still be sending.
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
