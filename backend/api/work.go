package api

import (
	"context"
	"runtime"
)

// workers bound how many large texts are patched or compared at once: each may take a
// hundred times its size in memory, and more at once than there are processors end no
// sooner.
type workers chan struct{}

func newWorkers() workers { return make(workers, runtime.GOMAXPROCS(0)) }

// smallText is the size below which a text is not worth waiting for.
const smallText = 64 << 10

// begin waits for a place for work on texts of that size in bytes, or for the end of
// ctx. The caller calls end after the work.
func (w workers) begin(ctx context.Context, size int) (end func(), err error) {
	if size <= smallText {
		return func() {}, nil
	}
	select {
	case w <- struct{}{}:
		return func() { <-w }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
