package storealone_test

import (
	"testing"
	"time"

	"kvstore/bench/storealone"
)

func TestRun(t *testing.T) {
	s, err := storealone.Open(t.Context(), t.TempDir(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	var sum uint64
	for _, callers := range []int{1, 8} {
		result, err := s.Run(t.Context(), callers, 20*time.Millisecond, 1)
		if err != nil || result.Requests == 0 || result.Latency.Total != result.Requests {
			t.Fatalf("%d callers: %d writes, %d in the histogram, %v", callers, result.Requests, result.Latency.Total, err)
		}
		sum += result.Requests
	}
	if s.Writes() != int64(sum) || s.Commits() == 0 || s.Commits() > s.Writes()+10 {
		t.Errorf("%d of %d writes in %d transactions", s.Writes(), sum, s.Commits())
	}
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}
