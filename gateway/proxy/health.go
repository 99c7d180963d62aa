package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"kvstore/internal/problem"
	"kvstore/internal/telemetry"
)

// gatewayPart is the gateway in the answer of /health.
type gatewayPart struct {
	Status  string `json:"status"`
	Version string `json:"version"`
}

// backendPart is all backends together in the answer of /health.
type backendPart struct {
	Status     string `json:"status"`
	Version    string `json:"version,omitempty"` // of the one that speaks for all
	Healthy    int    `json:"healthy"`
	Configured int    `json:"configured"`
	Store      string `json:"store,omitempty"`
	Detail     string `json:"detail,omitempty"`
}

// health is the answer of /health when all is well.
type health struct {
	Status   string          `json:"status"`
	Gateway  gatewayPart     `json:"gateway"`
	Backend  backendPart     `json:"backend"`
	Database json.RawMessage `json:"database"`
}

// report is what one backend says about its parts at /health, with 200 when all
// is well and with 503 when not.
type report struct {
	answered bool
	well     bool
	Backend  struct {
		Status  string `json:"status"`
		Version string `json:"version"`
		Store   string `json:"store"`
		Detail  string `json:"detail"`
	} `json:"backend"`
	Database json.RawMessage `json:"database"`
}

// serveAlive says that the gateway runs; it asks nobody.
func (p *Proxy) serveAlive(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, struct {
		Status string `json:"status"`
	}{"ok"})
}

// serveHealth asks every backend how it is. The service is well when at least
// one backend is, since then every request is answered; the counts tell the rest.
// The addresses of the backends are not for the outside.
func (p *Proxy) serveHealth(w http.ResponseWriter, r *http.Request) {
	reports := p.pool.askHealth(r.Context())
	best := bestOf(reports)
	answer := health{
		Status:  "ok",
		Gateway: gatewayPart{Status: "ok", Version: telemetry.Version},
		Backend: backendPart{
			Status: best.Backend.Status, Version: best.Backend.Version, Configured: len(reports),
			Store: best.Backend.Store, Detail: best.Backend.Detail,
		},
		Database: best.Database,
	}
	for _, said := range reports {
		if said.Backend.Status == "ok" {
			answer.Backend.Healthy++
		}
	}
	if p.pool.differ() != nil {
		best.well = false
		answer.Backend.Status, answer.Backend.Store = "failed", ""
		answer.Backend.Detail = "the backends serve different stores"
	}
	if best.well {
		writeJSON(w, answer)
		return
	}
	w.Header().Set("Retry-After", "1")
	problem.New(http.StatusServiceUnavailable, "unhealthy", "Service is unhealthy").
		With("gateway", answer.Gateway).With("backend", answer.Backend).With("database", answer.Database).Write(w)
}

// bestOf returns the report that speaks for all: the first of a backend that is
// well, else the first of one that answered, else the first.
func bestOf(reports []report) report {
	best := reports[0]
	for _, said := range reports[1:] {
		if said.well && !best.well || said.answered && !best.answered {
			best = said
		}
	}
	return best
}

// askHealth returns what each backend says of itself.
func (p *pool) askHealth(ctx context.Context) []report {
	reports := make([]report, len(p.backends))
	var asking sync.WaitGroup
	for i, b := range p.backends {
		asking.Go(func() { reports[i] = p.askReport(ctx, b) })
	}
	asking.Wait()
	return reports
}

// askReport returns what b says of itself. A backend that does not answer has
// failed, and of its database nothing is known.
func (p *pool) askReport(ctx context.Context, b *backend) report {
	var said report
	status, body, err := p.ask(ctx, b, "/health")
	if err == nil {
		err = json.Unmarshal(body, &said)
	}
	if err != nil || said.Backend.Status == "" || said.Database == nil {
		p.logger.DebugContext(ctx, "backend tells no health", "backend", b.url.String(), "status", status, "cause", err)
		said = report{Database: json.RawMessage(`{"status":"unknown","detail":"no backend has told"}`)}
		said.Backend.Status, said.Backend.Detail = "failed", "Backend service is unavailable"
		return said
	}
	said.answered = true
	said.well = said.Backend.Status == "ok" && !failed(said.Database)
	if said.well && status != http.StatusOK {
		said.well = false
		said.Backend.Status, said.Backend.Detail = "failed", fmt.Sprintf("/health answers %d", status)
	}
	return said
}

// failed reports whether a part says of itself that it is not well.
func failed(part json.RawMessage) bool {
	var said struct {
		Status string `json:"status"`
	}
	return json.Unmarshal(part, &said) != nil || said.Status == "failed"
}

// writeJSON answers 200 with value, which nobody may cache.
func writeJSON(w http.ResponseWriter, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		problem.New(http.StatusInternalServerError, "internal", "Internal error").Write(w)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Length", strconv.Itoa(len(body)+1))
	_, _ = w.Write(append(body, '\n')) // the client is gone; there is nobody to tell
}
