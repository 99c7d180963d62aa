package proxy

import "time"

const SlowRequest time.Duration = slowRequest

// Clients returns how many clients are counted.
func (p *Proxy) Clients() int {
	p.clients.mu.Lock()
	defer p.clients.mu.Unlock()
	return len(p.clients.counts)
}
