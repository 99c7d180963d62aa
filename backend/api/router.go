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
	"kvstore/internal/parameters"
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
	router.NoRoute(func(c *gin.Context) { a.writeError(c, noRoute()) })
	router.NoMethod(func(c *gin.Context) { a.writeError(c, noMethod(c)) })
	for _, r := range a.routes() {
		router.Match(r.methods, r.path, a.handle(r))
	}
	return telemetry.Traced(telemetry.Requests(router, logger), a.observer.tracer)
}

// A route is a line of the table of routes.
type route struct {
	methods []string
	path    string
	handler func(*gin.Context, query) error
	// evaluates says that the route evaluates If-Match and If-None-Match.
	evaluates bool
	// query names the parameters that the route knows, as parameters.Parse takes them.
	query []string
}

// routes is the table of every route.
func (a *API) routes() []route {
	const conditions, none = true, false
	known := func(names ...string) []string { return names }
	get, put := []string{http.MethodGet, http.MethodHead}, []string{http.MethodPut, http.MethodPost}
	post, patch, remove := []string{http.MethodPost}, []string{http.MethodPatch}, []string{http.MethodDelete}
	return []route{
		{put, "/put/*key", a.putEntry, conditions, known("ttl")},
		{get, "/get/*key", a.getEntry, conditions, known("version", "at", "raw")},
		{remove, "/delete/*key", a.deleteEntry, conditions, nil},
		{post, "/revert/*key", a.revertEntry, conditions, known("version")},
		{post, "/destroy/*key", a.destroyEntry, conditions, known("versions"+parameters.List, "all")},
		{get, "/history/*key", a.getHistory, none, known("limit", "before", "after", "values")},
		{get, "/keys", a.listKeys, none, known("prefix", "delimiter", "after", "limit", "deleted")},

		{post, batchRoute, a.batch, none, nil},
		{patch, "/patch/*key", a.patchEntry, conditions, known("ttl")},
		{get, "/diff/*key", a.getDiff, none, known("from", "to")},
		{get, watchRoute, a.watch, none, known("prefix", "since", "values", "for")},

		{get, "/cache/stats", a.cacheStats, none, nil},
		{get, "/db/stats", a.databaseStats, none, nil},
		// For the operator; not forwarded by the gateway.
		{post, "/db/compact", a.compact, none, nil},
		{get, "/db/backup", a.backup, none, nil},

		{get, "/health", a.health, none, nil},
		{get, "/healthz", a.alive, none, nil},
		{get, "/readyz", a.ready, none, nil},

		{get, "/openapi.json", a.openAPI, none, nil},
		{get, "/docs", a.docsPage, none, nil},
		{get, "/docs/*file", a.swaggerUI(), conditions, nil},
	}
}

// handle makes a route one of gin's: what the route does not know is refused, whatever
// the handler would do, and the error that the handler returns is answered.
func (a *API) handle(r route) gin.HandlerFunc {
	return func(c *gin.Context) {
		given, err := parameters.Parse(c.Request.URL.RawQuery, r.query...)
		if err == nil {
			err = checkHeader(c, r.evaluates)
		}
		if err == nil {
			err = r.handler(c, query{given})
		}
		if err != nil {
			a.writeError(c, err)
		}
	}
}
