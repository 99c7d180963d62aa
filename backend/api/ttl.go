package api

import "time"

// The bounds of a time to live. The upper one is 100 years, far below what a
// timestamp can hold.
const (
	minTTL = time.Millisecond
	maxTTL = 876_000 * time.Hour
)

const ttlRule = "must be a duration such as 90s or 1h30m, from 1ms to 876000h"

// ttl returns the time to live, 0 when there is none.
func (q query) ttl() (time.Duration, error) {
	if !q.Has("ttl") {
		return 0, nil
	}
	ttl, ok := parseTTL(q.Text("ttl"))
	if !ok {
		return 0, invalid("ttl", ttlRule)
	}
	return ttl, nil
}

// parseTTL parses a time to live and reports whether it is within the bounds.
func parseTTL(text string) (time.Duration, bool) {
	ttl, err := time.ParseDuration(text)
	return ttl, err == nil && ttl >= minTTL && ttl <= maxTTL
}
