package proxy

import (
	"bytes"
	"log/slog"
	"net/http"
	"time"

	"kvstore/internal/telemetry"
)

// slowRequest is how long a request takes that is logged, whatever became of it. A
// stream that ends is one.
const slowRequest = time.Second

// logRequest logs each answer of 500 and above at warn level, other failures and slow
// requests at info level, and the rest at debug level. What one client had too much
// of is logged where it is refused.
func (c *conn) logRequest() {
	level, message, took := slog.LevelDebug, "request", time.Since(c.began)
	switch {
	case c.line == noRequest:
	case c.status >= http.StatusInternalServerError:
		level = slog.LevelWarn
	case c.status == http.StatusTooManyRequests:
	case c.status >= http.StatusBadRequest:
		level, message = slog.LevelInfo, "request failed"
	case took >= slowRequest:
		level, message = slog.LevelInfo, "slow request"
	}
	if !c.p.logger.Enabled(c.p.base, level) {
		return
	}
	method, uri, _ := bytes.Cut([]byte(c.describe()), []byte(" "))
	c.p.logger.Log(c.context(), level, message, "method", string(method), "uri", telemetry.WithoutTokens(string(uri)),
		"status", c.status, "duration_us", took.Microseconds(), "remote", c.RemoteAddr().String())
}

// describe returns the method and the target of the request.
func (c *conn) describe() string {
	if c.line == "" {
		c.line = string(c.req.Method) + " " + string(c.req.Target)
	}
	return c.line
}
