package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

const (
	healthTimeout = time.Minute
	healthPeriod  = 20 * time.Millisecond
)

// waitHealthy returns nil as soon as a GET of url is answered with 200. It
// returns an error that tells the last answer when there was none within
// timeout, and at once when ctx ends.
func waitHealthy(ctx context.Context, url string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ticker := time.NewTicker(healthPeriod)
	defer ticker.Stop()
	last := "no answer"
	for {
		healthy, answer := health(ctx, url)
		if healthy {
			return nil
		}
		if ctx.Err() == nil {
			last = answer
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%s is not 200 after %s (%s): %w", url, timeout, last, ctx.Err())
		}
	}
}

func health(ctx context.Context, url string) (healthy bool, answer string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err.Error()
	}
	response, err := healthClient.Do(request)
	if err != nil {
		return false, err.Error()
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK, response.Status
}
