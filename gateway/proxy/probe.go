package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"kvstore/internal/telemetry"
)

const (
	probeTimeout = 2 * time.Second
	// maxReport bounds what a backend may say about itself.
	maxReport = 64 << 10
)

// readiness is what a backend answers at /readyz when it can serve.
type readiness struct {
	Status string `json:"status"`
	Store  string `json:"store"`
}

func newProbeClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DisableCompression:     true,
			MaxIdleConnsPerHost:    2,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: maxReport,
		},
		// A backend does not redirect: what does is none.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// probe asks b whether it can serve and notes the answer. It does nothing when
// ctx ends first: that says nothing about b.
func (p *pool) probe(ctx context.Context, b *backend) {
	select {
	case b.probing <- struct{}{}:
		defer func() { <-b.probing }()
	case <-ctx.Done():
		return
	}
	store, err := p.askReady(ctx, b)
	if ctx.Err() != nil {
		return
	}
	p.note(b, store, err)
}

// askReady returns the id of the store that b serves.
func (p *pool) askReady(ctx context.Context, b *backend) (string, error) {
	status, body, err := p.ask(ctx, b, "/readyz")
	if err != nil {
		return "", err
	}
	if status != http.StatusOK {
		return "", fmt.Errorf("/readyz answers %d", status)
	}
	var report readiness
	if err := json.Unmarshal(body, &report); err != nil {
		return "", fmt.Errorf("/readyz: %w", err)
	}
	if report.Status != "ok" || report.Store == "" {
		return "", errors.New("/readyz tells no store: this is no backend")
	}
	return report.Store, nil
}

// ask gets path from b, in probeTimeout at most.
func (p *pool) ask(ctx context.Context, b *backend, path string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url.JoinPath(path).String(), http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("User-Agent", "kvstore-gateway/"+telemetry.Version)
	if id := telemetry.RequestID(ctx); id != "" {
		request.Header.Set(telemetry.RequestIDHeader, id)
	}
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(request.Header)) // nothing without a span
	response, err := p.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxReport))
	return response.StatusCode, body, err
}
