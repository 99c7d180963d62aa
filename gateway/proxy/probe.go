package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"kvstore/internal/telemetry"
)

// maxReport bounds what a backend may say about itself, in bytes.
const maxReport = 64 << 10

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

// errNotReady says that a backend has answered.
var errNotReady = errors.New("is not ready")

// probe asks b whether it can serve, notes the answer, and returns after that or when ctx ends.
// Callers at the same time share one probe, which has the context run of the first. If run ends
// first, nothing is noted.
func (p *pool) probe(ctx, run context.Context, b *backend) {
	_, _ = b.probing.get(ctx, &p.asking, 0, func() (none struct{}) { // the end of ctx is no news
		store, err := p.askReady(run, b)
		if run.Err() == nil {
			p.note(b, store, err)
		}
		return none
	})
}

// askReady returns the id of the store that b serves.
func (p *pool) askReady(ctx context.Context, b *backend) (string, error) {
	status, body, err := p.ask(ctx, b, "/readyz")
	switch {
	case err != nil:
		return "", err
	case status == http.StatusLoopDetected:
		return "", errLoop
	case status != http.StatusOK:
		return "", fmt.Errorf("%w: /readyz answers %d", errNotReady, status)
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

// ask gets path from b, in Config.ProbeTimeout at most.
func (p *pool) ask(ctx context.Context, b *backend, path string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url.JoinPath(path).String(), http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("User-Agent", "kvstore-gateway/"+telemetry.Version)
	request.Header.Set("Via", "1.1 "+p.via)
	response, err := p.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxReport))
	return response.StatusCode, body, err
}
