package store

import (
	"sync"
	"time"

	"kvstore/backend/kv"
)

// A clock tells the time of the store. It follows the clock of the machine and
// never runs backwards, so that what has expired does not come back to life: when
// the machine's clock is set back, it goes on from where it was, at half speed,
// until the two meet. A time to live that is running then lasts at most twice as
// long.
type clock struct {
	machine func() time.Time

	mu      sync.Mutex // guards all below
	last    kv.Timestamp
	wall    kv.Timestamp  // of the machine, when last was told
	elapsed time.Time     // the monotonic clock, when last was told
	ahead   time.Duration // of the machine's clock
}

// newClock returns a clock that tells no time before start.
func newClock(machine func() time.Time, start kv.Timestamp) *clock {
	return &clock{machine: machine, last: start, wall: start, elapsed: time.Now()}
}

func (c *clock) now() kv.Timestamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, elapsed := kv.NewTimestamp(c.machine()), time.Now()
	if wall < c.wall {
		c.ahead += time.Duration(c.wall-wall) * time.Microsecond
	}
	c.ahead = max(0, c.ahead-elapsed.Sub(c.elapsed)/2)
	c.wall, c.elapsed = wall, elapsed
	c.last = max(c.last, wall+kv.Timestamp(c.ahead.Microseconds()))
	return c.last
}
