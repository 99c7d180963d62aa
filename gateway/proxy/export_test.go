package proxy

import (
	"net"
	"time"
)

const SlowRequest time.Duration = slowRequest

// Clients is how many clients are counted.
func (p *Proxy) Clients() int {
	p.clients.mu.Lock()
	defer p.clients.mu.Unlock()
	return len(p.clients.counts)
}

// A Reserve is one that no patrol looks at.
type Reserve struct{ reserve reserve }

// Put keeps conn, which is idle since now.
func (r *Reserve) Put(conn net.Conn, now time.Time) { r.reserve.put(&upstream{Conn: conn}, now) }

// Shrink lets go of idle connections as of now, when it did so last at before, and returns
// how many are left.
func (r *Reserve) Shrink(before, now time.Time) int {
	r.reserve.shrunk = before
	r.reserve.shrink(now)
	return len(r.reserve.idle)
}
