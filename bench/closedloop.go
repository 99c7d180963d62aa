package main

import (
	"errors"
	"sync"
	"time"

	"kvstore/bench/generator"
)

// closedLoop calls do in n goroutines for a duration, each again when it has returned. A *generator.WrongError
// is a wrong answer; any other error ends the loop.
func closedLoop(n int, d time.Duration, do func(worker int) error) (generator.Result, error) {
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		total generator.Result
		errs  error
	)
	start := time.Now()
	for worker := range n {
		all.Go(func() {
			result, err := repeat(start.Add(d), func() error { return do(worker) })
			mu.Lock()
			defer mu.Unlock()
			total.Merge(&result)
			errs = errors.Join(errs, err)
		})
	}
	all.Wait()
	total.Elapsed = time.Since(start)
	return total, errs
}

func repeat(end time.Time, do func() error) (r generator.Result, err error) {
	for now := time.Now(); now.Before(end); {
		err := do()
		after := time.Now()
		var wrong *generator.WrongError
		switch {
		case err == nil:
			r.Requests++
			r.Latency.Add(after.Sub(now))
		case errors.As(err, &wrong):
			r.Errors++
			r.Error = wrong.What
		default:
			return r, err
		}
		now = after
	}
	return r, nil
}
