package store

import "time"

const (
	firstPause   = 5 * time.Second
	longestPause = 10 * time.Minute
)

// aside has the keys with which a task of the store failed. Each waits before it is
// tried again, twice as long each time, so that it does not hold up the others. It is used by
// one goroutine.
type aside struct{ keys map[string]pause }

type pause struct {
	until time.Time
	of    time.Duration
}

func newAside() *aside { return &aside{keys: map[string]pause{}} }

// has reports whether the key waits.
func (a *aside) has(key string) bool { return time.Now().Before(a.keys[key].until) }

// add lets the key wait, and returns how long.
func (a *aside) add(key string) time.Duration {
	of := min(max(firstPause, 2*a.keys[key].of), longestPause)
	a.keys[key] = pause{time.Now().Add(of), of}
	return of
}

// remove is for a key that has not failed.
func (a *aside) remove(key string) { delete(a.keys, key) }

// forget removes keys that are not tried any more: those that could have been for as long
// as they had waited.
func (a *aside) forget() {
	for key, p := range a.keys {
		if time.Since(p.until) > p.of {
			delete(a.keys, key)
		}
	}
}
