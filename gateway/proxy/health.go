package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"kvstore/gateway/h1"
	"kvstore/internal/problem"
	"kvstore/internal/telemetry"
)

// reportAge is how old a report of the backends may be.
const reportAge = 250 * time.Millisecond

// healthFlight is the flight of a report.
const healthFlight = "health"

// gatewayPart is the gateway in the answer of /health.
type gatewayPart struct {
	Status  string `json:"status"`
	Version string `json:"version"`
}

// backendPart is a backend, or all of them together, in the answer of /health.
type backendPart struct {
	Status     string `json:"status"`
	Version    string `json:"version,omitempty"`
	Healthy    int    `json:"healthy"`
	Configured int    `json:"configured"`
	Store      string `json:"store,omitempty"`
	Detail     string `json:"detail,omitempty"`
}

// health is the answer of /health if all is well.
type health struct {
	Status   string          `json:"status"`
	Gateway  gatewayPart     `json:"gateway"`
	Backend  backendPart     `json:"backend"`
	Database json.RawMessage `json:"database"`
}

// A report is what a backend answers at /health.
type report struct {
	answered bool
	well     bool
	Backend  backendPart     `json:"backend"`
	Database json.RawMessage `json:"database"`
}

// answerHealth answers /health. All clients get the same report, which is at most reportAge old:
// they need no token, and could keep the backends busy otherwise.
func (h *handler) answerHealth(x *h1.Exchange) *h1.Answer {
	all := h.p.backends
	var reports []report
	x.Wait(func(ctx context.Context) {
		asked := all.flights.DoChan(healthFlight, func() (any, error) {
			if time.Since(all.reported) >= reportAge {
				all.reports, all.reported = all.askHealth(), time.Now()
			}
			return all.reports, nil
		})
		select {
		case result := <-asked:
			reports, _ = result.Val.([]report)
		case <-ctx.Done():
		}
	})
	if reports == nil {
		return &h1.Answer{} // not sent: Wait has failed
	}
	return all.overall(reports)
}

// overall sums the reports up. The service is well if at least one backend is, since then all
// requests are answered. The answer does not name addresses of backends.
func (all *backends) overall(reports []report) *h1.Answer {
	best := bestOf(reports)
	said := health{"ok", gatewayPart{"ok", telemetry.Version}, best.Backend, best.Database}
	said.Backend.Healthy, said.Backend.Configured = 0, len(reports)
	for _, report := range reports {
		if report.Backend.Status == "ok" {
			said.Backend.Healthy++
		}
	}
	if all.differ() != nil {
		best.well = false
		said.Backend.Status, said.Backend.Store = "failed", ""
		said.Backend.Detail = "the backends serve different stores"
	}
	if best.well {
		if body, err := json.Marshal(said); err == nil { // fails if a backend did not send JSON
			return jsonAnswer(append(body, '\n'))
		}
	}
	return problemAnswer(problem.New(http.StatusServiceUnavailable, "unhealthy", "Service is unhealthy").
		With("gateway", said.Gateway).With("backend", said.Backend).With("database", said.Database))
}

// bestOf returns the report that stands for all: the first of a backend that is well, or else of
// one that answered, or else the first one.
func bestOf(reports []report) report {
	best := reports[0]
	for _, said := range reports[1:] {
		if said.well && !best.well || said.answered && !best.answered {
			best = said
		}
	}
	return best
}

// askHealth asks all backends for their reports.
func (all *backends) askHealth() []report {
	reports := make([]report, len(all.list))
	var asking sync.WaitGroup
	for i, b := range all.list {
		asking.Go(func() { reports[i] = all.askReport(b) })
	}
	asking.Wait()
	return reports
}

// askReport asks b for its report. A backend that does not answer has failed, and the state of its
// database is unknown.
func (all *backends) askReport(b *backend) report {
	var said report
	status, body, err := all.ask(all.ctx, b, "/health")
	if err == nil {
		err = json.Unmarshal(body, &said)
	}
	if err != nil || said.Backend.Status == "" || said.Database == nil {
		all.logger.Debug("backend tells no health", "backend", b.url.String(), "status", status, "cause", err)
		said = report{Database: json.RawMessage(`{"status":"unknown","detail":"no backend has told"}`)}
		said.Backend.Status, said.Backend.Detail = "failed", "Backend service is unavailable"
		if status == http.StatusLoopDetected {
			said.Backend.Detail = errLoop.Error()
		}
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

// failed reports whether a part says that it failed.
func failed(part json.RawMessage) bool {
	var said struct {
		Status string `json:"status"`
	}
	return json.Unmarshal(part, &said) != nil || said.Status == "failed"
}
