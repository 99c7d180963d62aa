// Package capacity is a model of what one store on PostgreSQL can do: how many writes and reads a second, by the
// number of backends, the number of callers that wait, and the time of a commit. It knows nothing of what runs; its
// constants were measured by "go run . capacity", which also compares the model with runs.
//
// # Writes
//
// All commits of a store are a chain: each step is a transaction of one backend, and begins when the one before has
// ended. While a step is under way the other callers wait and are the next step, so with N callers a step has N/2
// writes, 128 at most. A step takes its round trips to the server, the commit, and the work for each write. So
//
//	writes/s = batch / (round trips + commit + batch * work)
//
// More backends do not change that. They follow: each of them asks for every commit, which takes processor time of the
// server.
//
// # Reads
//
// A read that must be fresh waits for a question to the server that begins after it came, the index. All reads of a
// backend that wait share one question, and while it is under way others come: with N callers at a backend, N/2 share
// one. So
//
//	reads/s of a backend = (N/2) / (round trip + work of the question)
//
// as far as its processors allow. The server answers a question for every N/2 reads. With twice the backends for the
// same callers, half as many reads share a question, so at some number of backends the server has more questions than
// it can answer: from there on one more backend makes reads slower.
package capacity

import (
	_ "embed"
	"encoding/json"
	"math"
)

// Constants are what was measured. Times are in seconds, and those of work are of a processor.
type Constants struct {
	Machine string `json:"machine"`

	WriteTrips float64 `json:"write_trips"` // round trips of a transaction, with the commit
	Step       float64 `json:"step"`        // of a step beyond them, without writes
	Row        float64 `json:"row"`         // that each write of a step adds to its time

	WriteBackend float64 `json:"write_backend"` // work of the backend for a write
	WriteServer  float64 `json:"write_server"`  // work of the server for a write
	FollowServer float64 `json:"follow_server"` // work of the server for each commit and each backend that follows
	FollowOther  float64 `json:"follow_other"`  // work of each backend that follows, for each commit

	ReadTrips   float64 `json:"read_trips"`   // round trips of the index
	Ask         float64 `json:"ask"`          // time of the index beyond them
	ReadBackend float64 `json:"read_backend"` // work of a backend for a read that its cache answers
	ReadServer  float64 `json:"read_server"`  // work of the server for a question

	WriteClient float64 `json:"write_client"` // work of the generator, which counts on one machine
	ReadClient  float64 `json:"read_client"`

	RoundTrip float64 `json:"round_trip"` // to the server on the same machine
	Commit    float64 `json:"commit"`     // of one row there
}

//go:embed measured.json
var measured []byte

// Measured returns the constants of the last run that was kept.
func Measured() (c Constants, err error) {
	err = json.Unmarshal(measured, &c)
	return c, err
}

// A Setup is what a store runs on. Times are in seconds.
type Setup struct {
	Backends  int
	Callers   int     // that wait at once, at all backends
	RoundTrip float64 // between a backend and the server
	Commit    float64 // of one row, as a backend sees it
	Cores     float64 // of each backend, and of the server
	// OneMachine says that all of them, and the clients, share the Cores.
	OneMachine bool
}

// largestBatch is that of package store.
const largestBatch = 128

// Batch returns how many writes a step has.
func (s Setup) Batch() float64 { return min(largestBatch, max(1, float64(s.Callers)/2)) }

// Writes returns writes a second. They go to one backend, as from a gateway.
func (c Constants) Writes(s Setup) float64 {
	batch, others := s.Batch(), float64(s.Backends-1)
	chain := batch / ((c.WriteTrips-1)*s.RoundTrip + s.Commit + c.Step + batch*c.Row)
	server := c.WriteServer + others*c.FollowServer/batch
	if s.OneMachine {
		return min(chain, s.Cores/(c.WriteBackend+server+others*c.FollowOther/batch+c.WriteClient))
	}
	return min(chain, s.Cores/c.WriteBackend, s.Cores/server)
}

// Shared returns how many reads share a question to the server.
func (s Setup) Shared() float64 { return max(1, float64(s.Callers)/float64(s.Backends)/2) }

// Reads returns fresh reads a second that caches answer. They go to all backends.
func (c Constants) Reads(s Setup) float64 {
	shared, n := s.Shared(), float64(s.Backends)
	waiting := min(n*shared, float64(s.Callers)) / (c.ReadTrips*s.RoundTrip + c.Ask)
	server := c.ReadServer / shared
	if s.OneMachine {
		return min(waiting, s.Cores/(c.ReadBackend+server+c.ReadClient))
	}
	return min(waiting, n*s.Cores/c.ReadBackend, s.Cores/server)
}

// BestBackends returns with how many backends, up to most, there are most reads.
func (c Constants) BestBackends(s Setup, most int) int {
	best, rate := 1, math.Inf(-1)
	for s.Backends = 1; s.Backends <= most; s.Backends++ {
		if r := c.Reads(s); r > rate*1.001 {
			best, rate = s.Backends, r
		}
	}
	return best
}
