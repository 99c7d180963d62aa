package proxy

import "time"

const SlowRequest time.Duration = slowRequest

// Clients is how many clients are counted.
func (p *Proxy) Clients() int {
	p.clients.mu.Lock()
	defer p.clients.mu.Unlock()
	return len(p.clients.counts)
}

// Shrink lets go of idle connections to backends as of now, when it did so last at before.
func (p *Proxy) Shrink(before, now time.Time) {
	for _, b := range p.pool.backends {
		b.reserve.mu.Lock()
		b.reserve.shrunk = before
		b.reserve.mu.Unlock()
		b.reserve.shrink(now)
	}
}
