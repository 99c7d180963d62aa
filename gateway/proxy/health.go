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

// reportAge is for how long a report of the backends serves.
const reportAge = 250 * time.Millisecond

// healthFlight is the name of the question for a report.
const healthFlight = "health"

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

// answerHealth tells how the gateway and its backends are. Everybody who asks gets the same
// report, which is at most reportAge old. Otherwise anybody could keep the backends busy without
// a token.
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
		return &h1.Answer{} // for nobody: the client has left, or the gateway stops
	}
	return all.overall(reports)
}

// overall puts what the backends say of themselves together. The service is well when at least
// one backend is, since then every request is answered; the counts tell the rest. The addresses
// of the backends are not for the outside.
func (all *backends) overall(reports []report) *h1.Answer {
	best := bestOf(reports)
	said := health{
		Status:  "ok",
		Gateway: gatewayPart{Status: "ok", Version: telemetry.Version},
		Backend: backendPart{
			Status: best.Backend.Status, Version: best.Backend.Version, Configured: len(reports),
			Store: best.Backend.Store, Detail: best.Backend.Detail,
		},
		Database: best.Database,
	}
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
		if body, err := json.Marshal(said); err == nil { // what a backend sent may be no JSON
			return jsonAnswer(append(body, '\n'))
		}
	}
	return problemAnswer(problem.New(http.StatusServiceUnavailable, "unhealthy", "Service is unhealthy").
		With("gateway", said.Gateway).With("backend", said.Backend).With("database", said.Database))
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
func (all *backends) askHealth() []report {
	reports := make([]report, len(all.list))
	var asking sync.WaitGroup
	for i, b := range all.list {
		asking.Go(func() { reports[i] = all.askReport(b) })
	}
	asking.Wait()
	return reports
}

// askReport returns what b says of itself. A backend that does not answer has
// failed, and of its database nothing is known.
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

// failed reports whether a part says of itself that it is not well.
func failed(part json.RawMessage) bool {
	var said struct {
		Status string `json:"status"`
	}
	return json.Unmarshal(part, &said) != nil || said.Status == "failed"
}
