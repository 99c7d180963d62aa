package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"
)

const (
	healthTimeout = time.Minute
	healthPeriod  = 20 * time.Millisecond
)

// waitHealthy returns nil as soon as GET url is answered with 200. If that does not happen
// within timeout, or before ctx ends, the error contains the last answer.
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

// scheme returns the scheme of the service's URL.
func scheme(getenv func(string) string) string {
	if getenv("KV_TLS_CERT") != "" {
		return "https"
	}
	return "http"
}

// healthClient does not verify certificates: it uses the loopback address and sends nothing
// secret.
var healthClient = &http.Client{Transport: &http.Transport{
	TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // as above
}}
