package proxy

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
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

// backendPart is a backend in the answer of /health.
type backendPart struct {
	Status   string `json:"status"`
	Version  string `json:"version,omitempty"`
	Revision int64  `json:"revision,omitempty"`
	Commit   int64  `json:"commit,omitempty"`
	LagMS    int64  `json:"lag_ms,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

// bestPart is the best backend in the answer of /health, and how many there are.
type bestPart struct {
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
	Backend  bestPart        `json:"backend"`
	Backends []backendPart   `json:"backends"`
	Database json.RawMessage `json:"database"`
}

// A report is what a backend answers at /health.
type report struct {
	state   int32 // healthy, lagging, ill or gone
	Backend struct {
		backendPart

		Store string `json:"store"`
	} `json:"backend"`
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
	best := slices.MinFunc(reports, func(a, b report) int { return cmp.Compare(a.state, b.state) })
	said := health{Status: "ok", Gateway: gatewayPart{"ok", telemetry.Version}, Database: best.Database}
	said.Backend = bestPart{
		Status: best.Backend.Status, Version: best.Backend.Version, Configured: len(reports),
		Store: best.Backend.Store, Detail: best.Backend.Detail,
	}
	for i := range reports {
		if reports[i].state == healthy {
			said.Backend.Healthy++
		}
		said.Backends = append(said.Backends, reports[i].part())
	}
	well := best.state <= lagging
	if all.differ() != nil {
		well = false
		said.Backend.Status, said.Backend.Store = "failed", ""
		said.Backend.Detail = "the backends serve different stores"
	}
	if well {
		if body, err := json.Marshal(said); err == nil { // fails if a backend did not send JSON
			return jsonAnswer(append(body, '\n'))
		}
	}
	return problemAnswer(problem.New(http.StatusServiceUnavailable, "unhealthy", "Service is unhealthy").
		With("gateway", said.Gateway).With("backend", said.Backend).With("backends", said.Backends).
		With("database", said.Database))
}

// part returns the backend of r as one of all. It has failed if its database has.
func (r *report) part() backendPart {
	part := r.Backend.backendPart
	switch {
	case r.state == lagging:
		part.Status = "lagging"
	case r.state == ill && part.Status == "ok":
		part.Status, part.Detail = "failed", r.database().Detail
	}
	return part
}

// database returns what r says of the database. If that is not understood, it has failed.
func (r *report) database() (said struct{ Status, Detail string }) {
	if json.Unmarshal(r.Database, &said) != nil {
		said.Status = "failed"
	}
	return said
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
		said = report{state: gone, Database: json.RawMessage(`{"status":"unknown","detail":"no backend has told"}`)}
		said.Backend.Status, said.Backend.Detail = "failed", "Backend service is unavailable"
		if status == http.StatusLoopDetected {
			said.Backend.Detail = errLoop.Error()
		}
		return said
	}
	said.state = healthy
	switch late := all.overdue(time.Duration(said.Backend.LagMS) * time.Millisecond); {
	case said.Backend.Status != "ok", said.database().Status == "failed":
		said.state = ill
	case status != http.StatusOK:
		said.state = ill
		said.Backend.Status, said.Backend.Detail = "failed", fmt.Sprintf("/health answers %d", status)
	case late != nil:
		said.state = lagging
		said.Backend.Detail = late.Error()
	}
	return said
}
