package store

import (
	"runtime"
	"sync"
	"time"
)

// What a delivery takes of a processor until it is with its client, about: a flush, and the
// text of an event.
const (
	costOfDelivery = 20 * time.Microsecond
	costOfEvent    = 500 * time.Nanosecond
)

// A pacer spreads deliveries to many feeds over the time that they take of all processors.
// If all of them began at once, every other goroutine would come after them.
type pacer struct {
	mu   sync.Mutex
	free time.Time // when what was begun is done
}

// begin counts deliveries of that many events each, and returns how long those that were
// counted before still take.
func (p *pacer) begin(deliveries int, events int64) time.Duration {
	cost := time.Duration(deliveries) * (costOfDelivery + time.Duration(events)*costOfEvent) / time.Duration(runtime.GOMAXPROCS(0))
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}
	wait := p.free.Sub(now)
	p.free = p.free.Add(cost)
	return wait
}
