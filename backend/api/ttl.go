package api

import (
	"fmt"
	"time"
)

// maxTTL is the longest time to live. Its end must fit into a timestamp.
const maxTTL = 100 * 365 * 24 * time.Hour

// ttlOf returns the time to live that the query names, 0 when it names none.
func ttlOf(q query) (time.Duration, error) {
	if !q.has("ttl") {
		return 0, nil
	}
	ttl, rule := parseTTL(q.text("ttl"))
	if rule != "" {
		return 0, invalid("ttl", rule)
	}
	return ttl, nil
}

// parseTTL returns a time to live, or the rule that the text breaks.
func parseTTL(text string) (ttl time.Duration, rule string) {
	ttl, err := time.ParseDuration(text)
	if err != nil || ttl < time.Microsecond || ttl > maxTTL {
		return 0, fmt.Sprintf("must be a Go duration such as 90s or 1h30m, from 1us to %dh (100 years)", int64(maxTTL/time.Hour))
	}
	return ttl, ""
}
