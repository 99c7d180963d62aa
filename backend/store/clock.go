package store

import (
	"sync"
	"time"

	"kvstore/backend/kv"
)

// A clock tells the time of the store: that of the machine, except that it never runs
// backwards, so that what has expired does not come back to life. While the machine's
// clock is behind what was told already, since it was set back or is not set yet, the
// store's goes on at half speed until the two meet. A time to live that is running then
// lasts at most twice as long.
type clock struct {
	machine func() time.Time

	mu   sync.Mutex // guards all below
	last kv.Timestamp
	wall kv.Timestamp // of the machine, when last was told
	at   time.Time    // on the monotonic clock, when last was told
}

// newClock returns a clock that tells no time before start.
func newClock(machine func() time.Time, start kv.Timestamp) *clock {
	return &clock{machine: machine, last: start, wall: kv.NewTimestamp(machine()), at: time.Now()}
}

func (c *clock) now() kv.Timestamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, at := kv.NewTimestamp(c.machine()), time.Now()
	// Neither a step forward of the machine's clock counts, nor time in which it stands still.
	gained := min(wall-c.wall, kv.Timestamp(at.Sub(c.at).Microseconds())) / 2
	switch {
	case wall >= c.last:
		c.last = wall
	case gained > 0:
		c.last += gained
	case wall >= c.wall: // so soon after the last call that it is not worth a microsecond
		return c.last
	}
	c.wall, c.at = wall, at
	return c.last
}
