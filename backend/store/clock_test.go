package store_test

import (
	"sync/atomic"
	"testing"
	"time"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
)

// TestClockGoesOnAndMeets: after the system clock was set back, the clock of the store goes on
// slowly until the two meet.
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

// TestClockStepIsCorrected: after steps back that are corrected, the store has the time of the
// system clock.
func TestClockStepIsCorrected(t *testing.T) {
	const steps = 10
	clock := newTestClock(24 * time.Hour.Microseconds())
	s := open(t, options{now: clock.now})
	last := put(t, s, "k", "1").Entry.Time
	for range steps {
		for _, step := range []time.Duration{-time.Hour, time.Hour + time.Minute} {
			clock.add(step)
			now := put(t, s, "k", "1").Entry.Time
			if now < last {
				t.Fatalf("the time of a write is %d after %d", now, last)
			}
			last = now
		}
		if now := clock.timestamp(); last != now {
			t.Fatalf("after the correction the store is at %d, the machine at %d", last, now)
		}
	}
}

// TestClockSetAfterStart: when the system clock starts in 1970 and is set later, the clock of
// the store does not run ahead of it, now or after a restart, and no key ends early.
func TestClockSetAfterStart(t *testing.T) {
	url := databasetest.URL(t)
	const present = 1_764_000_000_000_000
	clock := newTestClock(present)
	db := databasetest.Open(t, url)
	s := over(t, db, options{maxKeys: 10, maxBytes: 1000, now: clock.now})
	putFor(t, s, "k", 365*24*time.Hour)
	reopen := func() {
		s.Close()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = databasetest.Open(t, url)
		s = over(t, db, options{maxKeys: 10, maxBytes: 1000, now: clock.now})
	}
	clock.micros.Store(0)
	reopen()
	if early := put(t, s, "other", "1").Entry.Time; early < present {
		t.Errorf("a write in 1970 has the time %d, before that of the last write", early)
	}
	clock.micros.Store(present)
	clock.add(time.Minute)
	for range 2 {
		if now := put(t, s, "other", "1").Entry.Time; now != clock.timestamp() {
			t.Errorf("the store is at %d, the machine at %d", now, clock.timestamp())
		}
		if isDeleted(t, s, "k") {
			t.Error("the key has ended a year early")
		}
		clock.add(time.Minute)
		reopen()
	}
}
