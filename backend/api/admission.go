package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
)

const (
	defaultMaxRequests  = 8192
	defaultMaxBodyBytes = 128 << 20
	// smallBody is how much of a body costs nothing of the bytes that all bodies
	// share, so that who sends large ones slowly is not in the way of small writes.
	smallBody = 64 << 10
)

// Limits bounds what is under way at once: requests, watches and those for health
// excepted, and the bytes of large bodies. More is refused with kv.ErrOverloaded. A
// zero means 8,192 requests and 128 MiB.
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

// admission refuses work before it is begun. A request counts from when its body has
// arrived, so that clients who send theirs slowly take no place from others.
type admission struct {
	maxRequests, maxBodyBytes int64

	requests, bodyBytes atomic.Int64
}

func (a *API) admit(c *gin.Context) {
	switch c.FullPath() {
	case "/watch", "/health", "/healthz", "/readyz":
		c.Next()
		return
	}
	if c.Request.ContentLength == 0 {
		if !a.admission.begin() {
			a.refuse(c)
			return
		}
		defer a.admission.requests.Add(-1)
		c.Next()
		return
	}
	if length := c.Request.ContentLength; length > smallBody && !a.admission.hasRoom(length) {
		a.writeError(c, kv.TooManyBytes(a.admission.maxBodyBytes)) // sooner than after half of it
		c.Abort()
		return
	}
	body := &admittedBody{ReadCloser: c.Request.Body, admission: &a.admission}
	c.Request.Body = body
	defer body.release()
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

// hasRoom reports whether a body of that length is worth to be read. It reserves
// nothing: who only says that a large body comes takes no place.
func (a *admission) hasRoom(length int64) bool {
	held := a.bodyBytes.Load()
	return held == 0 || held+length-smallBody <= a.maxBodyBytes
}

// An admittedBody is the body of a request. It fails with kv.ErrOverloaded in the
// place of its end, when too many requests are under way, and when too much of large
// bodies is held.
type admittedBody struct {
	io.ReadCloser

	admission *admission
	read      int64
	held      int64 // of bodyBytes
	begun     bool
}

func (b *admittedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	if large := b.read - smallBody - b.held; large > 0 {
		b.held += large
		if b.admission.bodyBytes.Add(large) > b.admission.maxBodyBytes && b.held < b.admission.bodyBytes.Load() {
			return n, kv.TooManyBytes(b.admission.maxBodyBytes)
		}
	}
	if errors.Is(err, io.EOF) && !b.begun {
		if b.begun = b.admission.begin(); !b.begun {
			return n, kv.TooManyRequests(int(b.admission.maxRequests))
		}
	}
	return n, err
}

func (b *admittedBody) release() {
	b.admission.bodyBytes.Add(-b.held)
	if b.begun {
		b.admission.requests.Add(-1)
	}
}

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
