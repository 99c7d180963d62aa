// Package api speaks HTTP: it decodes a request, makes one call of the store and
// encodes the answer. router.go has every route, errors.go every error and its status,
// and each resource has a file.
package api

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/trace"

	"kvstore/backend/store"
	"kvstore/internal/parameters"
	"kvstore/internal/problem"
	"kvstore/internal/telemetry"
)

// A Config says what New serves, and its bounds. A bound of zero is the default.
type Config struct {
	Store  *store.Store
	Logger *slog.Logger
	// Metrics counts every request, and Tracer gives it a span; nil turns either off.
	Metrics *telemetry.RequestMetrics
	Tracer  trace.Tracer

	// MaxRequests is how many requests may be under way, watches and checks of health not
	// counted; more are kv.ErrOverloaded. The default is 8,192.
	MaxRequests int
	// MaxBodyBytes bounds the bytes of large bodies on their way in and, separately, of
	// large answers on their way out; more are kv.ErrOverloaded. The default is 128 MiB.
	MaxBodyBytes int64

	// Heartbeat is how long a stream is silent before a heartbeat. The default is 15 s.
	Heartbeat time.Duration
	// StallTimeout is how long a client may take nothing of a stream or a backup. The
	// default is 20 s, longer than that of Heartbeat so that the server's own last bytes
	// behind a stream are in time.
	StallTimeout time.Duration
	// BackupBytes is how much of a backup a client must take in each BackupWindow. The
	// defaults are 15 MiB and a minute.
	BackupBytes  int64
	BackupWindow time.Duration
}

// API answers the requests of the backend.
type API struct {
	Config

	workers   workers
	admission admission
	overloads overloads
	damage    damage
}

// New returns the handler of every route.
func New(cfg Config) http.Handler {
	cfg.MaxRequests = cmp.Or(cfg.MaxRequests, 8192)
	cfg.MaxBodyBytes = cmp.Or(cfg.MaxBodyBytes, 128<<20)
	cfg.Heartbeat = cmp.Or(cfg.Heartbeat, 15*time.Second)
	cfg.StallTimeout = cmp.Or(cfg.StallTimeout, 20*time.Second)
	cfg.BackupBytes = cmp.Or(cfg.BackupBytes, 15<<20)
	cfg.BackupWindow = cmp.Or(cfg.BackupWindow, time.Minute)
	a := &API{
		Config: cfg, workers: newWorkers(),
		admission: admission{maxRequests: int64(cfg.MaxRequests), maxBodyBytes: cfg.MaxBodyBytes},
	}
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	// A key is everything behind the verb, decoded once and otherwise untouched: nothing
	// may be redirected, cleaned or merged.
	router.RedirectTrailingSlash = false
	router.RedirectFixedPath = false
	router.RemoveExtraSlash = false
	router.HandleMethodNotAllowed = true
	a.observe(router)
	router.Use(a.sameOrigin(http.NewCrossOriginProtection()))
	router.Use(a.admit)
	router.NoRoute(func(c *gin.Context) { a.writeError(c, noRoute()) })
	router.NoMethod(func(c *gin.Context) { a.writeError(c, noMethod(c)) })
	for _, r := range a.routes() {
		router.Match(r.methods, r.path, a.handle(r))
	}
	return telemetry.Traced(telemetry.Requests(router, cfg.Logger), cfg.Tracer)
}

// A route is a line of the table of routes.
type route struct {
	methods []string
	path    string
	handler func(*gin.Context, query) error
	// conditional means that the route evaluates If-Match and If-None-Match.
	conditional bool
	// query names the parameters that the route knows, as parameters.Parse takes them.
	query []string
}

// minRevision is a parameter of the routes that read what was written. These know max-age too.
const minRevision = "min_revision"

// The routes that are not like all others: that of streams, and that of many writes.
const (
	watchRoute = "/watch"
	batchRoute = "/batch"
)

// routes is the table of every route.
func (a *API) routes() []route {
	const conditional, none = true, false
	known := func(names ...string) []string { return names }
	get, put := []string{http.MethodGet, http.MethodHead}, []string{http.MethodPut, http.MethodPost}
	post, patch, remove := []string{http.MethodPost}, []string{http.MethodPatch}, []string{http.MethodDelete}
	return []route{
		{put, "/put/*key", a.putEntry, conditional, known("ttl")},
		{get, "/get/*key", a.getEntry, conditional, known("version", "at", "raw", minRevision)},
		{remove, "/delete/*key", a.deleteEntry, conditional, nil},
		{post, "/revert/*key", a.revertEntry, conditional, known("version")},
		{post, "/destroy/*key", a.destroyEntry, conditional, known("versions"+parameters.List, "all")},
		{get, "/history/*key", a.getHistory, none, known("limit", "before", "after", "values", minRevision)},
		{get, "/keys", a.listKeys, none, known("prefix", "delimiter", "after", "limit", "deleted", minRevision)},

		{post, batchRoute, a.batch, none, nil},
		{patch, "/patch/*key", a.patchEntry, conditional, known("ttl")},
		{get, "/diff/*key", a.getDiff, none, known("from", "to", minRevision)},
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
		{get, "/docs/*file", a.swaggerUI(), conditional, nil},
	}
}

// Routes returns the labels of all routes: their paths in the OpenAPI document.
func Routes() []string {
	var labels []string
	seen := map[string]bool{}
	for _, route := range (&API{}).routes() {
		if label := labelOf(route.path); !seen[label] {
			seen[label] = true
			labels = append(labels, label)
		}
	}
	return labels
}

// labelOf writes a path of gin's as the OpenAPI document does: /get/{key}.
func labelOf(path string) string {
	if before, name, found := strings.Cut(path, "*"); found {
		return before + "{" + name + "}"
	}
	return path
}

// handle returns a handler that refuses what the route does not know, else calls its
// handler, and answers with the error of either.
func (a *API) handle(r route) gin.HandlerFunc {
	reads := slices.Contains(r.query, minRevision)
	return func(c *gin.Context) {
		given, err := parameters.Parse(c.Request.URL.RawQuery, r.query...)
		q := query{given}
		if err == nil {
			err = checkHeader(c, r.conditional)
		}
		if err == nil && reads {
			err = a.allowAge(c, q)
		}
		if err == nil {
			err = r.handler(c, q)
		}
		if err != nil {
			a.writeError(c, err)
		}
	}
}

// reachTimeout bounds how long a read waits until it is known whether the store has min_revision.
const reachTimeout = 5 * time.Second

// allowAge lets a read answer from what the store knows already, if that goes up to min_revision, or is
// not older than max-age allows. It refuses a revision that the store has not reached.
func (a *API) allowAge(c *gin.Context, q query) error {
	ctx, age, known := c.Request.Context(), a.Store.Age(), false
	if q.Has(minRevision) {
		revision, ok := parseRevision(q.Text(minRevision))
		if !ok {
			return invalid(minRevision, revisionRule)
		}
		waiting, cancel := context.WithTimeout(ctx, reachTimeout)
		defer cancel()
		if err := a.Store.Reach(waiting, revision); err != nil {
			return err
		}
		known = true
	}
	if header := c.Request.Header["Cache-Control"]; len(header) > 0 {
		if allowed, ok := maxAge(header); ok {
			if known = known || age <= allowed; !known {
				age = 0
			}
			c.Header("Age", strconv.FormatInt(int64(age/time.Second), 10))
		}
	}
	if known {
		c.Request = c.Request.WithContext(a.Store.Known(ctx, age))
	}
	return nil
}

// maxAge returns max-age of a Cache-Control header, which is a number of seconds (RFC 9111, section
// 5.2.1.1).
func maxAge(header []string) (age time.Duration, ok bool) {
	const most = 1 << 31 // as RFC 9111, section 1.2.2, reads what is more
	for directive := range strings.SplitSeq(strings.Join(header, ","), ",") {
		name, text, _ := strings.Cut(strings.TrimSpace(directive), "=")
		if text = strings.Trim(text, `"`); !strings.EqualFold(name, "max-age") || !digits(text) {
			continue
		}
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil { // it is too large
			seconds = most
		}
		return time.Duration(min(seconds, most)) * time.Second, true
	}
	return 0, false
}

func noRoute() error {
	return problem.New(http.StatusNotFound, "not_found", "There is no such endpoint; /docs lists them")
}

// noMethod runs after gin has set Allow.
func noMethod(c *gin.Context) error {
	return problem.New(http.StatusMethodNotAllowed, "method_not_allowed",
		fmt.Sprintf("%s is not allowed here; allowed: %s", c.Request.Method, c.Writer.Header().Get("Allow")))
}

// checkHeader refuses a request whose header asks for what the route does not do. A read
// may ignore a date (RFC 9110, section 13.1).
func checkHeader(c *gin.Context, conditional bool) error {
	header := c.Request.Header
	if !conditional {
		for _, name := range []string{"If-Match", "If-None-Match"} {
			if len(header[name]) > 0 {
				return noCondition(name, c.FullPath())
			}
		}
	}
	if method := c.Request.Method; method == http.MethodGet || method == http.MethodHead {
		return nil
	}
	for _, name := range []string{"If-Modified-Since", "If-Unmodified-Since"} {
		if len(header[name]) > 0 {
			return noCondition(name, c.FullPath())
		}
	}
	return checkBodyHeader(c)
}

// noCondition tells what to use in place of a condition that is not evaluated.
func noCondition(name, path string) error {
	hint := ""
	switch {
	case path == batchRoute:
		hint = "; a batch has conditions and if_version in its body"
	case strings.HasSuffix(name, "-Since"):
		hint = "; If-Match with the ETag of a version is exact where a date is not"
	}
	return problem.New(http.StatusBadRequest, "unsupported_condition", name+": is not a condition of this request"+hint)
}

// checkBodyHeader refuses a body that would be kept as something else: an encoded one, a part
// of one, as a resumed upload sends, or one of two types.
func checkBodyHeader(c *gin.Context) error {
	header := c.Request.Header
	for coding := range strings.SplitSeq(strings.Join(header["Content-Encoding"], ","), ",") {
		if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
			c.Header("Accept-Encoding", "identity")
			return problem.New(http.StatusUnsupportedMediaType, "unsupported_media_type",
				"Content-Encoding: is not supported; send the value without an encoding, or under a Content-Type that names it")
		}
	}
	switch {
	case len(header["Content-Range"]) > 0:
		return problem.New(http.StatusBadRequest, "partial_put", "Content-Range: a value can only be written whole")
	case len(header["Content-Type"]) > 1:
		return malformedHeader("Content-Type", fmt.Sprintf("is given %d times; send it once", len(header["Content-Type"])))
	}
	return nil
}
