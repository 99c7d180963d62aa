package proxy

import (
	"context"
	"sync"
	"time"
)

// A shared value is fetched once for all who want it at the same time.
type shared[T any] struct {
	mu   sync.Mutex // guards last
	last *fetch[T]
}

// A fetch is under way until done is closed; then the rest is valid.
type fetch[T any] struct {
	done  chan struct{}
	value T
	ended time.Time
}

// get returns the value of the fetch under way, or of the last one if it ended less than age
// ago. Otherwise it starts a new fetch as one of tasks. If ctx ends first, get returns its error,
// and the fetch goes on for the others.
func (s *shared[T]) get(ctx context.Context, tasks *tasks, age time.Duration, value func() T) (T, error) {
	f := s.latest(tasks, age, value)
	select {
	case <-f.done:
		return f.value, nil
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

func (s *shared[T]) latest(tasks *tasks, age time.Duration, value func() T) *fetch[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil {
		select {
		case <-s.last.done:
			if time.Since(s.last.ended) < age {
				return s.last
			}
		default:
			return s.last
		}
	}
	f := &fetch[T]{done: make(chan struct{})}
	s.last = f
	tasks.start(func() {
		f.value, f.ended = value(), time.Now()
		close(f.done)
	})
	return f
}

// tasks are goroutines that their owner waits for at its end.
type tasks struct {
	mu    sync.Mutex // guards ended
	ended bool
	group sync.WaitGroup
}

// start runs do in a goroutine of its own. Once wait was called it runs do itself: by then
// the owner has cancelled whatever do waits for.
func (t *tasks) start(do func()) {
	t.mu.Lock()
	late := t.ended
	if !late {
		t.group.Go(do)
	}
	t.mu.Unlock()
	if late {
		do()
	}
}

func (t *tasks) wait() {
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.group.Wait()
}
