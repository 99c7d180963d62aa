package store_test

import (
	"sync/atomic"
	"testing"
	"time"

	"kvstore/backend/kv"
)

// TestClockGoesOnAndMeets: after the machine's clock was set back, times go on, though
// slower, until they are those of the machine again.
func TestClockGoesOnAndMeets(t *testing.T) {
	var offset atomic.Int64
	machine := func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	start := func() func() kv.Timestamp {
		s := open(t, options{maxKeys: 10, maxBytes: 1000, now: machine})
		return func() kv.Timestamp { return put(t, s, "k", "1").Entry.Time }
	}
	t.Run("goes on", func(t *testing.T) {
		write := start()
		first := write()
		offset.Add(-int64(time.Hour))
		last := write()
		waitFor(t, func() bool { return write() > last })
		if limit := kv.NewTimestamp(machine().Add(time.Hour)); last < first || write() > limit {
			t.Errorf("the time of a write is %d after %d, and at the old speed would be %d", last, first, limit)
		}
	})
	t.Run("meets", func(t *testing.T) {
		write := start()
		write()
		offset.Add(-int64(300 * time.Millisecond))
		waitFor(t, func() bool { return write() <= kv.NewTimestamp(machine()) })
	})
}
