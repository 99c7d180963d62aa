package h1

import (
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// smallBuffer holds the head and the body of most requests. Every connection has one in
	// each direction, even an idle stream.
	smallBuffer = 4 << 10
	largeBuffer = 32 << 10
)

var errFull = errors.New("the buffer is full")

// A buffer holds what was read from a connection but not used: b[r:w].
type buffer struct {
	b    []byte
	r, w int
}

func (b *buffer) bytes() []byte { return b.b[b.r:b.w] }
func (b *buffer) len() int      { return b.w - b.r }

// take returns up to n bytes, which are used then. They are valid until the next fill.
func (b *buffer) take(n int) []byte {
	taken := b.b[b.r:min(b.r+n, b.w)]
	b.r += len(taken)
	return taken
}

// fill reads once from conn. A full buffer grows up to most bytes, and then the error is
// errFull.
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
		return nil // the next read returns the error again
	}
	return err
}

// shrink frees what a large message needed.
func (b *buffer) shrink() {
	if b.len() == 0 && len(b.b) > smallBuffer {
		*b = buffer{}
	}
}

var largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// longAgo is a deadline at which a read or write fails at once.
var longAgo = time.Unix(1, 0)

// A deadline is that of a connection, for reading or for writing. It is moved only when
// necessary, since moving it costs more than reading the clock.
type deadline struct {
	set   func(time.Time) error
	at    time.Time // zero if there is none
	stale bool      // it was set past this deadline
}

// in sets the deadline to timeout after now, or up to an eighth later.
func (d *deadline) in(now time.Time, timeout time.Duration) {
	if left := d.at.Sub(now); !d.stale && left >= timeout && left <= timeout+timeout/8 {
		return
	}
	d.at, d.stale = now.Add(timeout+timeout/8), false
	_ = d.set(d.at) // fails only on a closed connection
}

// none removes the deadline.
func (d *deadline) none() {
	if d.stale || !d.at.IsZero() {
		d.at, d.stale = time.Time{}, false
		_ = d.set(d.at)
	}
}
