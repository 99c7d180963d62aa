package api

import (
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/trace"

	"kvstore/internal/telemetry"
)

// Observed counts every request with metrics and gives it a span of tracer; nil
// turns either off, and without both a request costs what it did.
func Observed(metrics *telemetry.RequestMetrics, tracer trace.Tracer) Option {
	return func(a *API) { a.observer = observer{metrics, tracer} }
}

// Routes returns the labels of all routes, as the OpenAPI document has their paths.
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

// The routes that are not like all others: that of streams, and that of many writes.
const (
	watchRoute = "/watch"
	batchRoute = "/batch"
)

type observer struct {
	metrics *telemetry.RequestMetrics
	tracer  trace.Tracer
}

// use observes every request of router, those to no route too.
func (o observer) use(router *gin.Engine) {
	if o.metrics == nil && o.tracer == nil {
		return
	}
	labels := map[string]string{"": telemetry.OtherRoute}
	counts := map[string]*telemetry.RouteMetrics{}
	for _, route := range (&API{}).routes() {
		labels[route.path] = labelOf(route.path)
	}
	if o.metrics != nil {
		for path, label := range labels {
			counts[path] = o.metrics.Route(label)
		}
	}
	router.Use(func(c *gin.Context) {
		start, path := time.Now(), c.FullPath()
		if o.metrics != nil {
			o.metrics.Begin()
		}
		panicked := true
		defer func() {
			status := statusOf(c, panicked)
			if o.metrics != nil {
				counts[path].Count(c.Request.Method, status, time.Since(start), path == watchRoute)
				o.metrics.End()
			}
			if o.tracer != nil {
				ctx := c.Request.Context()
				telemetry.DescribeRequest(trace.SpanFromContext(ctx), c.Request.Method, labels[path], telemetry.RequestID(ctx), status)
			}
		}()
		c.Next()
		panicked = false
	})
}

// statusOf is the status of the answer; a panic is answered outside of the router.
func statusOf(c *gin.Context, panicked bool) int {
	if panicked && !c.Writer.Written() {
		return http.StatusInternalServerError
	}
	return c.Writer.Status()
}
