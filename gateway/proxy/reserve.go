package proxy

import (
	"sync"
	"time"
)

const (
	// idleTimeout is how long an unused connection to a backend is kept. It must
	// be shorter than telemetry.IdleTimeout: a backend that closes a connection
	// while a write is being sent on it leaves the client without an answer.
	idleTimeout = 90 * time.Second
	// After each shrinkInterval, half of the connections that nobody used during it are
	// closed, but never so many that fewer than alwaysKept are left.
	shrinkInterval = 5 * time.Second
	alwaysKept     = 64
)

// A reserve keeps the idle connections to one backend. A connection is made only when none is
// idle, so there are never more than were in use at once, and never more than clients may have.
// What a peak leaves behind is closed step by step, and everything when the backend is gone.
type reserve struct {
	mu     sync.Mutex // guards what follows
	idle   []*upstream
	shrunk time.Time
	ended  bool
}

// take returns the connection that was used last and is still open, or nil.
func (r *reserve) take() *upstream {
	for {
		r.mu.Lock()
		last := len(r.idle) - 1
		if last < 0 {
			r.mu.Unlock()
			return nil
		}
		up := r.idle[last]
		r.idle[last] = nil
		r.idle = r.idle[:last]
		r.mu.Unlock()
		if up.isQuiet() {
			return up
		}
		up.Close()
	}
}

// put keeps up for the next request.
func (r *reserve) put(up *upstream, now time.Time) {
	up.reused, up.idle = true, now
	up.in.shrink()
	r.mu.Lock()
	if !r.ended {
		r.idle = append(r.idle, up)
		up = nil
	}
	r.mu.Unlock()
	if up != nil {
		up.Close()
	}
}

// shrink closes what is not needed any more.
func (r *reserve) shrink(now time.Time) {
	r.mu.Lock()
	surplus := r.unused(now.Add(-idleTimeout))
	if now.Sub(r.shrunk) >= shrinkInterval {
		r.shrunk = now
		spare := min(r.unused(now.Add(-shrinkInterval)), len(r.idle)-alwaysKept)
		surplus = max(surplus, (spare+1)/2)
	}
	closing := append([]*upstream(nil), r.idle[:surplus]...)
	left := copy(r.idle, r.idle[surplus:])
	clear(r.idle[left:])
	r.idle = r.idle[:left]
	r.mu.Unlock()
	for _, up := range closing {
		up.Close()
	}
}

// unused returns how many were not used since then. They are the first: the last is always
// taken first.
func (r *reserve) unused(then time.Time) int {
	n := 0
	for n < len(r.idle) && r.idle[n].idle.Before(then) {
		n++
	}
	return n
}

// clear closes all; if it is the end, also those that are put from now on.
func (r *reserve) clear(end bool) {
	r.mu.Lock()
	idle := r.idle
	r.idle, r.ended = nil, r.ended || end
	r.mu.Unlock()
	for _, up := range idle {
		up.Close()
	}
}
