package h1

import (
	"net"
	"time"
)

// Put keeps conn, which is idle since now.
func (p *Pool) Put(conn net.Conn, now time.Time) { p.put(&upstream{Conn: conn, pool: p}, now) }

// ShrinkFrom is Shrink when the last one was at before. It returns how many connections are
// left.
func (p *Pool) ShrinkFrom(before, now time.Time) int {
	p.shrunk = before
	p.Shrink(now)
	return len(p.idle)
}
