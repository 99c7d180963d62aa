// Package api speaks HTTP: it decodes a request, makes one call of the store and
// encodes the answer. The routes stand in this file, the errors and their status in
// errors.go, and each resource has a file.
package api

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"kvstore/backend/store"
	"kvstore/internal/telemetry"
)

// API answers the requests of the backend.
type API struct {
	store   *store.Store
	logger  *slog.Logger
	workers workers

	admission admission
	overloads overloads
	damage    damage

	heartbeat, stall time.Duration // of streams
	backupPace       pace
	observer         observer
}

// New returns the handler of every route.
func New(s *store.Store, logger *slog.Logger, options ...Option) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	a := &API{
		store: s, logger: logger, workers: newWorkers(),
		heartbeat: heartbeatInterval, stall: stallTimeout,
		backupPace: pace{window: backupWindow, least: backupLeast},
		admission:  admission{maxRequests: defaultMaxRequests, maxBodyBytes: defaultMaxBodyBytes},
	}
	for _, option := range options {
		option(a)
	}
	router := gin.New()
	// A key is everything behind the verb, decoded once and otherwise untouched:
	// nothing may be redirected, cleaned or merged.
	router.RedirectTrailingSlash = false
	router.RedirectFixedPath = false
	router.RemoveExtraSlash = false
	router.HandleMethodNotAllowed = true
	a.observer.use(router)
	router.Use(a.sameOrigin(http.NewCrossOriginProtection()))
	router.Use(a.admit)
	router.NoRoute(a.handle(noRoute))
	router.NoMethod(a.handle(noMethod))
	a.routes(router)
	return telemetry.Traced(telemetry.Requests(router, logger), a.observer.tracer)
}

// routes is the list of every route.
func (a *API) routes(router *gin.Engine) {
	write := []string{http.MethodPut, http.MethodPost}
	read := []string{http.MethodGet, http.MethodHead}

	router.Match(write, "/put/*key", a.handle(a.putEntry))
	router.Match(read, "/get/*key", a.handle(a.getEntry))
	router.DELETE("/delete/*key", a.handle(a.deleteEntry))
	router.POST("/revert/*key", a.handle(a.revertEntry))
	router.POST("/destroy/*key", a.handle(a.destroyEntry))
	router.Match(read, "/history/*key", a.handle(a.getHistory))
	router.Match(read, "/keys", a.handle(a.listKeys))

	router.POST("/batch", a.handle(a.batch))
	router.PATCH("/patch/*key", a.handle(a.patchEntry))
	router.Match(read, "/diff/*key", a.handle(a.getDiff))
	router.Match(read, "/watch", a.handle(a.watch))

	router.Match(read, "/cache/stats", a.handle(a.cacheStats))
	router.Match(read, "/db/stats", a.handle(a.databaseStats))
	// For the operator; not forwarded by the gateway.
	router.POST("/db/compact", a.handle(a.compact))
	router.Match(read, "/db/backup", a.handle(a.backup))

	router.Match(read, "/health", a.handle(a.health))
	router.Match(read, "/healthz", a.handle(a.alive))
	router.Match(read, "/readyz", a.handle(a.ready))

	router.Match(read, "/openapi.json", a.handle(a.openAPI))
	router.Match(read, "/docs", a.handle(a.docsIndex))
	router.Match(read, "/docs/*any", a.swaggerUI())
}

// handle turns a handler that returns its error into one of gin's.
func (a *API) handle(handler func(*gin.Context) error) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := handler(c); err != nil {
			a.writeError(c, err)
		}
	}
}
