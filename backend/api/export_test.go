package api

import (
	"strings"
	"time"

	"kvstore/internal/parameters"
)

// StreamTimes sets the time without an event after which a stream has a heartbeat,
// and the time that a client may take nothing of what is sent before it is let go.
// They are 15 and 20 seconds.
func StreamTimes(heartbeat, stall time.Duration) Option {
	return func(a *API) { a.heartbeat, a.stall = heartbeat, stall }
}

// KnownParameters are those of each route, by its method and path as the OpenAPI
// document has them.
func KnownParameters() map[string][]string {
	known := map[string][]string{}
	for _, r := range (&API{}).routes() {
		for _, method := range r.methods {
			names := []string{}
			for _, name := range r.query {
				names = append(names, strings.TrimSuffix(name, parameters.List))
			}
			known[method+" "+labelOf(r.path)] = names
		}
	}
	return known
}
