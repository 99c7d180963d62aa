package caches

import (
	"fmt"
	"math/rand/v2"

	"kvstore/backend/kv"
	"kvstore/bench/generator"
)

// Trace returns so many numbers of keys below keys, drawn with that skew; the same
// each time.
func Trace(skew float64, keys, length int) []int {
	zipf := generator.NewZipf(rand.New(rand.NewPCG(3, 4)), skew, keys) //nolint:gosec // the same in each run is wanted
	trace := make([]int, length)
	for i := range trace {
		trace[i] = zipf.Next()
	}
	return trace
}

// Replay asks a new cache for each key of the trace and fills in what it misses.
// It returns for each request whether it hit. An error means a wrong value.
func Replay(kind Kind, room int, entries []kv.Entry, trace []int) ([]bool, error) {
	c, err := kind.New(room, true)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	hits := make([]bool, len(trace))
	for i, number := range trace {
		want := &entries[number]
		got, ok := c.Get(want.Key)
		if !ok {
			c.Fill(want.Key, *want)
			continue
		}
		if !right(&got, want) {
			return nil, fmt.Errorf("%s, request %d: asked for %s, got %s version %d", kind.Name, i, want.Key, got.Key, got.Version)
		}
		hits[i] = true
	}
	return hits, nil
}

// Share returns the share of true.
func Share(hits []bool) float64 {
	if len(hits) == 0 {
		return 0
	}
	n := 0
	for _, hit := range hits {
		if hit {
			n++
		}
	}
	return float64(n) / float64(len(hits))
}
