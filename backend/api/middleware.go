package api

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/trace"

	"kvstore/backend/kv"
	"kvstore/internal/problem"
	"kvstore/internal/telemetry"
)

// observe counts and traces every request of router, also those that no route takes.
func (a *API) observe(router *gin.Engine) {
	if a.Metrics == nil && a.Tracer == nil {
		return
	}
	labels := map[string]string{"": telemetry.OtherRoute}
	counts := map[string]*telemetry.RouteMetrics{}
	for _, route := range a.routes() {
		labels[route.path] = labelOf(route.path)
	}
	if a.Metrics != nil {
		for path, label := range labels {
			counts[path] = a.Metrics.Route(label)
		}
	}
	router.Use(func(c *gin.Context) {
		start, path := time.Now(), c.FullPath()
		if a.Metrics != nil {
			a.Metrics.Begin()
		}
		panicked := true
		defer func() {
			status := statusOf(c, panicked)
			if a.Metrics != nil {
				counts[path].Count(c.Request.Method, status, time.Since(start), path == watchRoute)
				a.Metrics.End()
			}
			if a.Tracer != nil {
				ctx := c.Request.Context()
				telemetry.DescribeRequest(trace.SpanFromContext(ctx), c.Request.Method, labels[path], telemetry.RequestID(ctx), status)
			}
		}()
		c.Next()
		panicked = false
	})
}

// statusOf returns the status of the answer. A panic is answered outside of the router.
func statusOf(c *gin.Context, panicked bool) int {
	if panicked && !c.Writer.Written() {
		return http.StatusInternalServerError
	}
	return c.Writer.Status()
}

// sameOrigin refuses writes from the pages of other sites in the browser of somebody who
// can reach the service: a form can send what a bare curl -d does. Other clients than
// browsers send neither Origin nor Sec-Fetch-Site, and pass.
func (a *API) sameOrigin(protection *http.CrossOriginProtection) gin.HandlerFunc {
	return func(c *gin.Context) {
		if protection.Check(c.Request) == nil {
			return
		}
		a.writeError(c, problem.New(http.StatusForbidden, "cross_origin",
			"The request comes from a page of another origin, which may not change anything here"))
		c.Abort()
	}
}

// smallBody is how much of a body, or of an answer, does not count. So a client that sends
// a large body slowly is not in the way of small writes.
const smallBody = 64 << 10

// admission refuses work before it begins. A request counts from its header on, except
// while its body is awaited: clients that send theirs slowly block nobody.
type admission struct {
	maxRequests, maxBodyBytes int64

	requests, bodyBytes, answerBytes atomic.Int64
}

func (a *API) admit(c *gin.Context) {
	switch c.FullPath() {
	case watchRoute, "/health", "/healthz", "/readyz":
		c.Next()
		return
	}
	if !a.admission.begin() {
		a.writeError(c, kv.TooManyRequests(a.MaxRequests))
		c.Abort()
		return
	}
	body := admittedBody{ReadCloser: c.Request.Body, admission: &a.admission, begun: true}
	defer body.release()
	if length := c.Request.ContentLength; length > smallBody && !a.admission.hasRoom(length) {
		a.writeError(c, kv.TooManyBytes(a.admission.maxBodyBytes)) // sooner than after half of it
		c.Abort()
		return
	} else if length != 0 {
		c.Request.Body = &body
	}
	answer := &admittedAnswer{ResponseWriter: c.Writer, context: c, api: a}
	defer answer.release()
	c.Writer = answer
	c.Next()
}

func (a *admission) begin() bool {
	if a.requests.Add(1) > a.maxRequests {
		a.requests.Add(-1)
		return false
	}
	return true
}

// hasRoom reports whether a body of that length is worth reading. It reserves nothing,
// so a client that only announces a large body blocks nobody.
func (a *admission) hasRoom(length int64) bool {
	held := a.bodyBytes.Load()
	return held == 0 || held+length-smallBody <= a.maxBodyBytes
}

// An admittedBody is the body of a request, and counts the request. Read fails with
// kv.ErrOverloaded when large bodies hold too many bytes, and in place of io.EOF when too
// many requests are under way.
type admittedBody struct {
	io.ReadCloser

	admission *admission
	read      int64
	held      int64 // of bodyBytes
	begun     bool  // the request counts
}

func (b *admittedBody) Read(p []byte) (int, error) {
	b.end()
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	if large := b.read - smallBody - b.held; large > 0 {
		b.held += large
		if b.admission.bodyBytes.Add(large) > b.admission.maxBodyBytes && b.held < b.admission.bodyBytes.Load() {
			return n, kv.TooManyBytes(b.admission.maxBodyBytes)
		}
	}
	if err != nil {
		if b.begun = b.admission.begin(); !b.begun {
			return n, kv.TooManyRequests(int(b.admission.maxRequests))
		}
	}
	return n, err
}

// end stops counting the request.
func (b *admittedBody) end() {
	if b.begun {
		b.begun = false
		b.admission.requests.Add(-1)
	}
}

func (b *admittedBody) release() {
	b.admission.bodyBytes.Add(-b.held)
	b.end()
}

// An admittedAnswer refuses an answer, before any of it is sent, when those that wait for
// their clients hold too many bytes.
type admittedAnswer struct {
	gin.ResponseWriter

	context *gin.Context
	api     *API
	held    int64 // of answerBytes
	refused bool
}

func (w *admittedAnswer) Write(b []byte) (int, error) {
	if !w.Written() && !w.refused {
		w.admit()
	}
	if w.refused {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

// WriteString is Write, for io.WriteString.
func (w *admittedAnswer) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

// admit counts an answer that is whole in memory. One of unknown length is sent in pieces,
// and so is a backup.
func (w *admittedAnswer) admit() {
	length, err := strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64)
	if err != nil || length <= smallBody || w.context.FullPath() == "/db/backup" {
		return
	}
	admission := &w.api.admission
	w.held = length
	if waiting := admission.answerBytes.Add(length); waiting == length || waiting <= admission.maxBodyBytes {
		return
	}
	w.release()
	w.refused = true
	for name := range w.Header() {
		if name != telemetry.RequestIDHeader {
			w.Header().Del(name)
		}
	}
	w.context.Writer = w.ResponseWriter
	w.api.writeError(w.context, kv.TooManyAnswerBytes(admission.maxBodyBytes))
	w.context.Writer = w
}

// release must be called after the answer, sent or not.
func (w *admittedAnswer) release() {
	w.api.admission.answerBytes.Add(-w.held)
	w.held = 0
}

// Unwrap lets http.ResponseController reach the connection.
func (w *admittedAnswer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// overloads logs, once a second, how many requests were refused.
type overloads struct {
	last  atomic.Int64 // Unix seconds of the last line
	count atomic.Int64 // since then
}

func (o *overloads) note(ctx context.Context, logger *slog.Logger, err error) {
	o.count.Add(1)
	now, last := time.Now().Unix(), o.last.Load()
	if now != last && o.last.CompareAndSwap(last, now) {
		logger.WarnContext(ctx, "requests are refused", "count", o.count.Swap(0), "error", err)
	}
}
