package store

import (
	"context"
	"runtime"
	"sync"
	"time"
)

const (
	// wakeChunk is how many watches are woken at a time. Those that are woken late find more
	// events at once.
	wakeChunk = 32
	// After waking more watches than that, the task pauses for pauseFactor times as long as it
	// took, at most longestPause. Every pauseStep it checks whether to go on.
	pauseFactor  = 3
	longestPause = 500 * time.Millisecond
	pauseStep    = 10 * time.Millisecond
)

// run wakes watches until the feeds end.
func (w *watchers) run(ctx context.Context) {
	var ready []*Watch
	var events int64 // at most, for each
	for {
		select {
		case <-w.marked:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		ready, events = w.takeMarked(ready[:0])
		for rest := ready; len(rest) > 0; {
			chunk := rest[:min(len(rest), wakeChunk)]
			sleep(ctx, w.pacer.begin(len(chunk), events))
			for _, watch := range chunk {
				signal(watch.wake)
			}
			rest = rest[len(chunk):]
		}
		if len(ready) > wakeChunk {
			w.pause(ctx, time.Since(began))
		}
		clear(ready)
	}
}

// pause leaves the processors to the writer, so that the next deliveries have more events and
// cost less for each. It ends when nothing was written, or when there are enough events for a
// delivery.
func (w *watchers) pause(ctx context.Context, took time.Duration) {
	until := time.Now().Add(min(pauseFactor*took, longestPause))
	w.log.mu.Lock()
	head, added := w.log.head, w.log.added
	w.log.mu.Unlock()
	for len(w.marked) > 0 && ctx.Err() == nil && time.Now().Before(until) {
		sleep(ctx, min(pauseStep, time.Until(until)))
		w.log.mu.Lock()
		enough := w.log.head-head >= logWindow/2 || w.log.added-added >= deliveryBytes/2
		w.log.mu.Unlock()
		if enough {
			return
		}
	}
}

// sleep returns after d, or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// takeMarked unmarks the marked groups and tells their members from where on they have
// something to read. It appends these to ready, and returns the most events that one of
// them has.
func (w *watchers) takeMarked(ready []*Watch) (_ []*Watch, events int64) {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	for _, g := range w.groups {
		g.marked = false
		events = max(events, g.last-g.first+1)
		for _, s := range g.members {
			if s.watch.position < g.last {
				s.watch.noteLocked(g.first)
				ready = append(ready, s.watch)
			}
		}
	}
	clear(w.groups)
	w.groups = w.groups[:0]
	return ready, events
}

// costOfDelivery and costOfEvent are about the processor time of a delivery until its client
// has it: a flush, and the text of each event.
const (
	costOfDelivery = 20 * time.Microsecond
	costOfEvent    = 300 * time.Nanosecond
)

// A pacer spreads deliveries to many feeds over the time that they take half of the
// processors. If all of them began at once, every other goroutine would have to wait.
type pacer struct {
	mu   sync.Mutex
	free time.Time // when the deliveries so far are done
}

// begin counts deliveries of that many events each, and returns how long to wait for the
// earlier ones.
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
