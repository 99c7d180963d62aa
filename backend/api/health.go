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
	// degraded when it works, but waits or is in danger; from the gateway: unknown when no backend tells, lagging for a
	// backend over KV_MAX_LAG
	Status  string `json:"status" enums:"ok,degraded,lagging,failed,unknown" example:"ok"`
	Version string `json:"version,omitempty" example:"1.0.0"`
	Store   string `json:"store,omitempty" example:"0b0f7a52-6f0e-4d6e-9c0b-3f1f3c1d2a11"`
	Detail  string `json:"detail,omitempty"`
	// of a backend on PostgreSQL: the revision up to which it knows the store
	Revision int64 `json:"revision,omitempty" example:"42"`
	// of a backend on PostgreSQL: the number of the last commit that it knows
	Commit int64 `json:"commit,omitempty" example:"40"`
	// of a backend on PostgreSQL: for how many milliseconds it has not made sure that it knows every commit
	LagMS int64 `json:"lag_ms,omitempty" example:"12"`
	// of the member database, on PostgreSQL
	Engine string `json:"engine,omitempty" example:"postgresql"`
	// of the member database, on PostgreSQL: the hosts and the database
	Address string `json:"address,omitempty" example:"db1,db2/kv"`
	// of the member database, on PostgreSQL: the server takes writes
	Primary bool `json:"primary,omitempty" example:"true"`
	// of the member database, on PostgreSQL: how many standbys have each write before it is answered, if that is known
	SynchronousStandbys *int `json:"synchronous_standbys,omitempty" example:"1"`
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
	backend := a.backendHealth()
	database := a.databaseHealth(c.Request.Context())
	if database.Status != statusFailed {
		return writeJSON(c, healthAnswer{Status: statusOK, Backend: backend, Database: database})
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
	return writeJSON(c, part{Status: statusOK})
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
	return writeJSON(c, a.backendHealth())
}

// backendHealth tells of this process and of what it knows of the store.
func (a *API) backendHealth() part {
	said := part{Status: statusOK, Version: telemetry.Version, Store: a.Store.ID()}
	if sharing, shared := a.Store.Sharing(); shared {
		said.Revision, said.Commit, said.LagMS = sharing.Revision, sharing.Commit, sharing.Age.Milliseconds()
	}
	return said
}

func (a *API) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return a.Store.Ping(ctx)
}

const (
	// slowCommit is the duration from which a transaction means that the disk is slow.
	slowCommit = 5 * time.Second
	// damageTold is how long /health tells that something could not be read, and rewrittenTold how long
	// that writes were lost.
	damageTold    = time.Minute
	rewrittenTold = 10 * time.Minute
)

// What a part says of itself.
const statusOK, statusDegraded, statusFailed = "ok", "degraded", "failed"

// damage has the time, in Unix nanoseconds, at which something last could not be read.
type damage struct{ last atomic.Int64 }

func (d *damage) note(err error) {
	if errors.Is(err, kv.ErrCorrupt) {
		d.last.Store(time.Now().UnixNano())
	}
}

// databaseHealth pings the database and tells what is known of its server or its disk. Only a database
// that does not answer or takes no writes has failed: with a disk that is full, slow or damaged in
// parts, or a server whose standbys are away, the backend still serves.
func (a *API) databaseHealth(ctx context.Context) part {
	sharing, shared := a.Store.Sharing()
	said := a.diskHealth(ctx, shared)
	if !shared {
		return said
	}
	said.Engine = "postgresql"
	if said.Status == statusFailed {
		return said
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	server, _, err := a.Store.Describe(ctx)
	if err != nil {
		a.Logger.WarnContext(ctx, "the server of the database does not describe itself", "error", err)
		return said
	}
	said.Version, said.Address, said.Primary = server.Version, server.Address, true // others are not connected to
	if server.StandbysKnown {
		said.SynchronousStandbys = &server.Standbys
	}
	switch lost := server.Synchronous && server.StandbysKnown && server.Standbys == 0; {
	case said.Detail != "":
	case time.Since(sharing.RewrittenAt) < rewrittenTold:
		said.Status = statusDegraded
		said.Detail = "The server has lost writes that were answered, as a failover without synchronous replication does; they are not served"
	case lost:
		said.Status, said.Detail = statusDegraded, "No synchronous standby is connected: writes wait for one; reads work"
	case !server.Synchronous:
		said.Detail = "Replication is not synchronous: a failover may lose writes that were answered"
	}
	return said
}

func (a *API) diskHealth(ctx context.Context, shared bool) part {
	if err := a.ping(ctx); err != nil {
		a.Logger.ErrorContext(ctx, "the database does not answer", "error", err)
		if errors.Is(err, kv.ErrCorrupt) || errors.Is(err, kv.ErrDiskFailed) {
			return part{Status: statusFailed, Detail: "The database is damaged, or its disk does not give it back; what is in the cache is served"}
		}
		return part{Status: statusFailed, Detail: "The database does not answer"}
	}
	switch disk := a.Store.Disk(); {
	case disk.Failing && shared:
		return part{Status: statusDegraded, Detail: "The server does not confirm commits: writes fail, or it is not known whether they were made; reads work"}
	case disk.Failing:
		return part{Status: statusFailed, Detail: "The disk reports errors: writes fail until it works again; what can be read is served"}
	case disk.Full:
		return part{Status: statusOK, Detail: "The disk is full: writes are refused until there is room; reads work"}
	case disk.Committing >= slowCommit:
		return part{Status: statusOK, Detail: fmt.Sprintf("The disk is slow: writes have waited for it for %d s; reads work", int(disk.Committing.Seconds()))}
	case time.Since(time.Unix(0, a.damage.last.Load())) < damageTold:
		return part{Status: statusOK, Detail: "In the last minute something could not be read: the database is damaged, or its disk does not give it back"}
	default:
		return part{Status: statusOK}
	}
}
