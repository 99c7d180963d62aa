package store

import (
	"sync"
	"time"

	"kvstore/backend/kv"
)

// A clock is the clock of the store: it follows the system clock, except that it never runs
// backwards, so that a key that has expired does not come back to life. While the system clock
// is behind a time that now has returned, because it was set back or is not set yet, the
// store's clock goes on at half speed until the two meet. A time to live that is running then
// lasts at most twice as long.
type clock struct {
	system func() time.Time

	mu   sync.Mutex   // guards all below
	last kv.Timestamp // the time that now has returned last
	wall kv.Timestamp // the system clock at that time
	at   time.Time    // the monotonic clock at that time
}

// newClock returns a clock that does not return a time before start.
func newClock(system func() time.Time, start kv.Timestamp) *clock {
	return &clock{system: system, last: start, wall: kv.NewTimestamp(system()), at: time.Now()}
}

func (c *clock) now() kv.Timestamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, at := kv.NewTimestamp(c.system()), time.Now()
	// Neither a step forward of the system clock counts, nor time in which it stands still.
	gained := min(wall-c.wall, kv.Timestamp(at.Sub(c.at).Microseconds())) / 2
	switch {
	case wall >= c.last:
		c.last = wall
	case gained > 0:
		c.last += gained
	case wall >= c.wall: // less than two microseconds after the last call
		return c.last
	}
	c.wall, c.at = wall, at
	return c.last
}
