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

	"kvstore/backend/kv"
	"kvstore/internal/telemetry"
)

const (
	defaultMaxRequests  = 8192
	defaultMaxBodyBytes = 128 << 20
	// smallBody is how much of a body costs nothing of the bytes that all bodies
	// share, so that who sends large ones slowly is not in the way of small writes. An
	// answer of that size costs nothing either.
	smallBody = 64 << 10
)

// Limits bounds what is under way at once: requests, watches and those for health
// excepted, and the bytes of large bodies on their way in and, apart, of large answers
// on their way out. More is refused with kv.ErrOverloaded. A zero means 8,192 requests
// and 128 MiB.
func Limits(requests int, bodyBytes int64) Option {
	return func(a *API) {
		if requests > 0 {
			a.admission.maxRequests = int64(requests)
		}
		if bodyBytes > 0 {
			a.admission.maxBodyBytes = bodyBytes
		}
	}
}

// admission refuses work before it is begun. A request counts from its head on, but not
// while its body is waited for: clients who send theirs slowly take no place from others.
type admission struct {
	maxRequests, maxBodyBytes int64

	requests, bodyBytes, answerBytes atomic.Int64
}

func (a *API) admit(c *gin.Context) {
	switch c.FullPath() {
	case "/watch", "/health", "/healthz", "/readyz":
		c.Next()
		return
	}
	if !a.admission.begin() {
		a.refuse(c)
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

func (a *API) refuse(c *gin.Context) {
	a.writeError(c, kv.TooManyRequests(int(a.admission.maxRequests)))
	c.Abort()
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

// An admittedBody is the body of a request, and counts the request. It fails with
// kv.ErrOverloaded in the place of its end, when too many requests are under way, and
// when too much of large bodies is held.
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

// An admittedAnswer refuses an answer that is too much beside those that wait for their
// clients, before anything of it is sent.
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

// admit counts an answer that is whole in memory. One of unknown length is sent piece by
// piece, and so is a backup.
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

// release must be called when the answer was sent, or was not.
func (w *admittedAnswer) release() {
	w.api.admission.answerBytes.Add(-w.held)
	w.held = 0
}

// Unwrap lets http.ResponseController reach the connection.
func (w *admittedAnswer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// overloads tell the log of requests that were refused, once a second.
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
