package h1

import (
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// smallBuffer holds the head and the body of most requests. Every connection
	// has one in each direction, idle streams too.
	smallBuffer = 4 << 10
	largeBuffer = 32 << 10
)

var errFull = errors.New("the buffer is full")

// A buffer holds what was read from a connection and is not used yet: b[r:w].
type buffer struct {
	b    []byte
	r, w int
}

func (b *buffer) bytes() []byte { return b.b[b.r:b.w] }
func (b *buffer) len() int      { return b.w - b.r }

// take uses up to n bytes. They stay as they are until the next fill.
func (b *buffer) take(n int) []byte {
	taken := b.b[b.r:min(b.r+n, b.w)]
	b.r += len(taken)
	return taken
}

// fill reads once from conn. The buffer grows to most bytes when it is full; then
// the error is errFull.
func (b *buffer) fill(conn net.Conn, most int) error {
	switch {
	case b.r == b.w:
		b.r, b.w = 0, 0
		if len(b.b) == 0 {
			b.b = make([]byte, smallBuffer)
		}
	case b.w < len(b.b):
	case b.r > 0:
		b.w = copy(b.b, b.b[b.r:b.w])
		b.r = 0
	case len(b.b) >= most:
		return errFull
	default:
		b.b = append(b.b, make([]byte, len(b.b))...)
	}
	n, err := conn.Read(b.b[b.w:])
	b.w += n
	if n > 0 {
		return nil // the error comes again
	}
	return err
}

// shrink lets go of what one large message has needed.
func (b *buffer) shrink() {
	if b.len() == 0 && len(b.b) > smallBuffer {
		*b = buffer{}
	}
}

var largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// longAgo is a deadline that makes a read or write fail at once.
var longAgo = time.Unix(1, 0)

// A deadline is a connection's for reading or for writing. It is moved only when
// it must be, since moving it for each request costs more than reading the clock.
type deadline struct {
	set   func(time.Time) error
	at    time.Time // zero: none
	stale bool      // somebody else has set it
}

// in makes the connection fail after timeout, or up to an eighth later.
func (d *deadline) in(now time.Time, timeout time.Duration) {
	if left := d.at.Sub(now); !d.stale && left >= timeout && left <= timeout+timeout/8 {
		return
	}
	d.at, d.stale = now.Add(timeout+timeout/8), false
	_ = d.set(d.at) // fails on a closed connection, as the read will
}

// none lets the connection wait for as long as it takes.
func (d *deadline) none() {
	if d.stale || !d.at.IsZero() {
		d.at, d.stale = time.Time{}, false
		_ = d.set(d.at)
	}
}
