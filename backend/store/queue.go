package store

import (
	"context"
	"runtime"
	"sync"

	"kvstore/backend/kv"
)

const (
	// maxBatchWrites and maxBatchBytes bound one transaction, and so how long a
	// write waits for the others in it.
	maxBatchWrites = 128
	maxBatchBytes  = 8 << 20
	// defaultMaxQueuedWrites is several times the number of clients that bring the highest
	// rate of writes, a few hundred, since refusing a write costs as much processor time as
	// making it. It is less than a second of writes.
	// defaultMaxQueuedBytes lets 256 clients write half a megabyte each at once, with which
	// the process held 450 MiB.
	defaultMaxQueuedWrites = 4096
	defaultMaxQueuedBytes  = 128 << 20
)

// A request is what is written whole or not at all: one change, or those of a batch.
type request struct {
	ctx          context.Context //nolint:containedctx // of the caller that waits for the outcome
	requirements []Requirement
	changes      []Change
	batch        bool // an error names the index of its change
	// alone, when set, is what to do in place of the changes, in a transaction of its own.
	alone func(*pending) error

	admittedWrites int // what the queue has counted
	admittedBytes  int64

	done     chan struct{} // closed when the outcome below is there
	results  []Result
	revision int64 // of the store after the request
	err      error
}

// keys yields the keys whose heads the request needs.
func (r *request) keys(yield func(string) bool) {
	for _, q := range r.requirements {
		if !yield(q.Key) {
			return
		}
	}
	for _, c := range r.changes {
		if !yield(c.Key) {
			return
		}
	}
}

func (r *request) bytes() (n int) {
	for _, c := range r.changes {
		n += len(c.Value)
	}
	return n
}

// A queue holds the requests that are accepted and not answered. It refuses requests beyond
// its bounds, so that under more load than the disk takes, neither memory nor the time that a
// write waits grows.
type queue struct {
	waiting   chan *request // has room for every admitted request
	maxWrites int
	maxBytes  int64

	next *request // taken, for the next batch; only the writer uses it

	sending sync.RWMutex // held for reading while a request is sent to waiting
	closed  bool

	mu     sync.Mutex // guards all below
	writes int
	bytes  int64
}

func newQueue(cfg Config) *queue {
	q := &queue{maxWrites: cfg.MaxQueuedWrites, maxBytes: cfg.MaxQueuedBytes}
	if q.maxWrites == 0 {
		q.maxWrites = defaultMaxQueuedWrites
	}
	if q.maxBytes == 0 {
		q.maxBytes = defaultMaxQueuedBytes
	}
	q.waiting = make(chan *request, q.maxWrites)
	return q
}

// submit hands a request to the writer and waits for its outcome. It refuses the request at
// once, with kv.ErrOverloaded, when too much waits already.
func (q *queue) submit(r *request) error {
	if err := q.admit(r); err != nil {
		return err
	}
	return q.await(r)
}

// await is submit that waits for room in place of refusing, for what the store itself writes
// and for the further steps of a caller's request.
func (q *queue) await(r *request) error {
	if err := q.send(r); err != nil {
		q.release(r)
		return err
	}
	select {
	case <-r.done:
		return r.err
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

func (q *queue) send(r *request) error {
	q.sending.RLock()
	defer q.sending.RUnlock()
	if q.closed {
		return errClosed
	}
	select {
	case q.waiting <- r:
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

// close refuses further requests. Those that wait stay in the queue.
func (q *queue) close() {
	q.sending.Lock()
	defer q.sending.Unlock()
	if !q.closed {
		q.closed = true
		close(q.waiting)
	}
}

// take waits for a request and returns it with those that wait behind it, within the bounds of
// a transaction. It leaves out a request whose caller has gone, and ends before one that must
// be alone. It returns false when the queue is closed and empty.
func (q *queue) take() (batch []*request, ok bool) {
	next := q.next
	if q.next = nil; next == nil {
		if next, ok = <-q.waiting; !ok {
			return nil, false
		}
	}
	// This lets the callers that were just answered write again in this batch. Otherwise
	// callers split into two halves that wait for each other.
	runtime.Gosched()
	for writes, bytes := 0, 0; ; {
		switch err := next.ctx.Err(); {
		case err != nil:
			q.answer(next, err)
		case next.alone != nil && len(batch) > 0:
			q.next = next
			return batch, true
		default:
			batch = append(batch, next)
			writes += len(next.changes)
			bytes += next.bytes()
		}
		if len(batch) > 0 && batch[0].alone != nil || writes >= maxBatchWrites || bytes >= maxBatchBytes {
			return batch, true
		}
		select {
		case next, ok = <-q.waiting:
			if !ok {
				return batch, true
			}
		default:
			return batch, true
		}
	}
}

// admit counts r, or returns kv.ErrOverloaded. A request that is larger than a bound by itself
// is admitted when nothing else waits, else it never would be.
func (q *queue) admit(r *request) error {
	writes, bytes := max(len(r.changes), 1), int64(r.bytes())
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.writes > 0 {
		if q.writes+writes > q.maxWrites {
			return kv.TooManyWrites(q.maxWrites)
		}
		if q.bytes+bytes > q.maxBytes {
			return kv.TooManyBytes(q.maxBytes)
		}
	}
	q.writes += writes
	q.bytes += bytes
	r.admittedWrites, r.admittedBytes = writes, bytes
	return nil
}

// release undoes admit.
func (q *queue) release(r *request) {
	if r.admittedWrites == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.writes -= r.admittedWrites
	q.bytes -= r.admittedBytes
}

// answer lets the caller of r go on, with err or, when it is nil, with what r has.
func (q *queue) answer(r *request, err error) {
	if err != nil {
		r.err = err
	}
	q.release(r)
	close(r.done)
}

// load returns how many writes are accepted and not answered, and the bytes of their values.
func (q *queue) load() (writes int, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.writes, q.bytes
}
