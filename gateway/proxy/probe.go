package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"kvstore/gateway/h1"
	"kvstore/internal/telemetry"
)

// maxReport bounds the answers of backends about themselves, in bytes.
const maxReport = 64 << 10

// readiness is what a backend answers at /readyz.
type readiness struct {
	Status   any    `json:"status"` // "ok", or the number of a problem
	Store    string `json:"store"`
	Revision int64  `json:"revision"`
	// LagMS is for how many milliseconds the backend has not confirmed that it has the store's
	// last commit.
	LagMS int64 `json:"lag_ms"`
}

func (r readiness) lag() time.Duration { return time.Duration(r.LagMS) * time.Millisecond }

func newProbeClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DisableCompression:     true,
			MaxIdleConnsPerHost:    2,
			IdleConnTimeout:        h1.IdleUpstream,
			MaxResponseHeaderBytes: maxReport,
		},
		// A backend does not redirect, so what redirects is no backend.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// errNotReady means that a backend answered, but cannot serve.
var errNotReady = errors.New("is not ready")

// probe asks b whether it can serve and notes the answer. It waits for that until ctx ends.
// Concurrent callers share one probe, which runs with the context run of the first; if run ends,
// nothing is noted.
func (all *backends) probe(ctx, run context.Context, b *backend) {
	noted := all.flights.DoChan(b.url.Host, func() (any, error) {
		said, err := all.askReady(run, b)
		if run.Err() == nil {
			all.note(b, said, err)
		}
		return nil, nil
	})
	select {
	case <-noted:
	case <-ctx.Done():
	}
}

// askReady asks b whether it is ready. An error that wraps errNotReady comes with what b said.
func (all *backends) askReady(ctx context.Context, b *backend) (said readiness, err error) {
	status, body, err := all.ask(ctx, b, "/readyz")
	if err != nil {
		return said, err
	}
	if status == http.StatusLoopDetected {
		return said, errLoop
	}
	err = json.Unmarshal(body, &said)
	switch {
	case status != http.StatusOK:
		return said, fmt.Errorf("%w: /readyz answers %d", errNotReady, status)
	case err != nil:
		return readiness{}, fmt.Errorf("/readyz: %w", err)
	case said.Status != "ok" || said.Store == "":
		return readiness{}, errors.New("/readyz tells no store: this is no backend")
	}
	return said, nil
}

// ask gets path from b within Config.ProbeTimeout.
func (all *backends) ask(ctx context.Context, b *backend, path string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, all.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url.JoinPath(path).String(), http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("User-Agent", "kvstore-gateway/"+telemetry.Version)
	request.Header.Set("Via", "1.1 "+all.via)
	response, err := all.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxReport))
	return response.StatusCode, body, err
}
