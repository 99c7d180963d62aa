// Package telemetrytest has what tests need to look at a program's log.
package telemetrytest

import (
	"bytes"
	"sync"
)

// A Journal is a log that a test can read while it is written.
type Journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *Journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// String returns all that was written.
func (j *Journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}
