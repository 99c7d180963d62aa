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
	costOfEvent    = 300 * time.Nanosecond
)

// A pacer spreads deliveries to many feeds over the time that they take of half of the
// processors. If all of them began at once, every other goroutine would come after them.
type pacer struct {
	mu   sync.Mutex
	free time.Time // when what was begun is done
}

// begin counts deliveries of that many events each, and returns how long those that were
// counted before still take.
func (p *pacer) begin(deliveries int, events int64) time.Duration {
	half := max(1, runtime.GOMAXPROCS(0)/2)
	cost := time.Duration(deliveries) * (costOfDelivery + time.Duration(events)*costOfEvent) / time.Duration(half)
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
