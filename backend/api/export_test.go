package api

import "time"

// StreamTimes sets the time without an event after which a stream has a heartbeat,
// and the time that a client may take nothing of what is sent before it is let go.
// They are 15 and 20 seconds.
func StreamTimes(heartbeat, stall time.Duration) Option {
	return func(a *API) { a.heartbeat, a.stall = heartbeat, stall }
}
