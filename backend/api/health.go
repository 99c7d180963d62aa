package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
	"kvstore/internal/problem"
	"kvstore/internal/telemetry"
)

// pingTimeout bounds how long a health check waits for the database. It is shorter than the 2 s that
// a gateway waits for the answer: a backend whose database hangs is not one that is gone.
const pingTimeout = 1500 * time.Millisecond

// part is the health of one part of the service.
type part struct {
	// from the gateway: unknown when no backend tells; lagging for a backend over KV_MAX_LAG
	Status  string `json:"status" enums:"ok,lagging,failed,unknown" example:"ok"`
	Version string `json:"version,omitempty" example:"1.0.0"`
	Store   string `json:"store,omitempty" example:"0b0f7a52-6f0e-4d6e-9c0b-3f1f3c1d2a11"`
	Detail  string `json:"detail,omitempty"`
	// of the member backend, from the gateway: how many backends are healthy
	Healthy int `json:"healthy,omitempty" example:"1"`
	// of the member backend, from the gateway: how many it has in all
	Configured int `json:"configured,omitempty" example:"1"`
} //	@name	Part

// healthAnswer has a member for each part. The gateway adds itself.
type healthAnswer struct {
	Status  string `json:"status" example:"ok"`
	Gateway *part  `json:"gateway,omitempty"`
	Backend part   `json:"backend"`
	// from the gateway: each backend, in the order of KV_BACKENDS
	Backends []part `json:"backends,omitempty"`
	Database part   `json:"database"`
} //	@name	Health

// health reports on every part.
//
//	@Summary		Health of every part
//	@Description	200 when gateway, backend and database all work; else 503, with the same members.
//	@ID				getHealth
//	@Tags			operation
//	@Produce		json
//	@Success		200	{object}	healthAnswer
//	@Failure		503	{object}	problem.Problem	"A part does not work (code unhealthy)"
//	@Router			/health [get]
func (a *API) health(c *gin.Context, _ query) error {
	backend := part{Status: "ok", Version: telemetry.Version, Store: a.Store.ID()}
	database := a.databaseHealth(c.Request.Context())
	if database.Status == "ok" {
		return writeJSON(c, healthAnswer{Status: "ok", Backend: backend, Database: database})
	}
	return problem.New(http.StatusServiceUnavailable, "unhealthy", database.Detail).
		With("backend", backend).With("database", database)
}

// alive says that the process runs.
//
//	@Summary		Is the process alive
//	@Description	For supervisors next to the process; not reachable through Traefik.
//	@ID				getLiveness
//	@Tags			operation
//	@Produce		json
//	@Success		200	{object}	part
//	@Router			/healthz [get]
func (a *API) alive(c *gin.Context, _ query) error {
	return writeJSON(c, part{Status: "ok"})
}

// ready says that the process can serve, and which store it serves.
//
//	@Summary		Can the backend serve
//	@Description	For supervisors and gateways; not reachable through Traefik. `store` identifies the store, in an answer of 503 too.
//	@ID				getReadiness
//	@Tags			operation
//	@Produce		json
//	@Success		200	{object}	part
//	@Router			/readyz [get]
func (a *API) ready(c *gin.Context, _ query) error {
	if err := a.ping(c.Request.Context()); err != nil {
		return fmt.Errorf("%w: %w", problemOf(err).With("store", a.Store.ID()), err)
	}
	return writeJSON(c, part{Status: "ok", Version: telemetry.Version, Store: a.Store.ID()})
}

func (a *API) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return a.Store.Ping(ctx)
}

const (
	// slowCommit is the duration from which a transaction means that the disk is slow.
	slowCommit = 5 * time.Second
	// damageTold is how long /health tells that something could not be read.
	damageTold = time.Minute
)

// damage has the time, in Unix nanoseconds, at which something last could not be read.
type damage struct{ last atomic.Int64 }

func (d *damage) note(err error) {
	if errors.Is(err, kv.ErrCorrupt) {
		d.last.Store(time.Now().UnixNano())
	}
}

// databaseHealth pings the database and tells what is known of its disk. Only a database
// that does not answer or takes no writes has failed: with a disk that is full, slow or
// damaged in parts the backend still serves.
func (a *API) databaseHealth(ctx context.Context) part {
	const ok, failed = "ok", "failed"
	if err := a.ping(ctx); err != nil {
		a.Logger.ErrorContext(ctx, "the database does not answer", "error", err)
		if errors.Is(err, kv.ErrCorrupt) || errors.Is(err, kv.ErrDiskFailed) {
			return part{Status: failed, Detail: "The database is damaged, or its disk does not give it back; what is in the cache is served"}
		}
		return part{Status: failed, Detail: "The database does not answer"}
	}
	switch disk := a.Store.Disk(); {
	case disk.Failing:
		return part{Status: failed, Detail: "The disk reports errors: writes fail until it works again; what can be read is served"}
	case disk.Full:
		return part{Status: ok, Detail: "The disk is full: writes are refused until there is room; reads work"}
	case disk.Committing >= slowCommit:
		return part{Status: ok, Detail: fmt.Sprintf("The disk is slow: writes have waited for it for %d s; reads work", int(disk.Committing.Seconds()))}
	case time.Since(time.Unix(0, a.damage.last.Load())) < damageTold:
		return part{Status: ok, Detail: "In the last minute something could not be read: the database is damaged, or its disk does not give it back"}
	default:
		return part{Status: ok}
	}
}
