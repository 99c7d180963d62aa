package proxy

import (
	"log/slog"
	"net/http"
	"strings"
	"time"

	"kvstore/gateway/h1"
	"kvstore/internal/telemetry"
)

// slowRequest is how long a request takes that is logged as slow, such as a stream.
const slowRequest = time.Second

// observe begins to count and to trace the request.
func (h *handler) observe(x *h1.Exchange) {
	if h.p.cfg.Requests != nil {
		h.p.cfg.Requests.Begin()
	}
	if h.p.cfg.Tracer != nil {
		h.span = h.startSpan(x)
	}
}

// Done implements h1.Handler: it logs and counts the request.
func (h *handler) Done(x *h1.Exchange) {
	if h.counted {
		h.p.clients.leave(h.client, h.stream)
	}
	h.logEnd(x)
	if x.Status != 0 {
		h.logRequest(x)
	}
	if requests := h.p.cfg.Requests; requests != nil && h.label != "" {
		requests.Route(h.label).Count(h.method, x.Status, time.Since(x.Began), h.stream)
		requests.End()
	}
	if h.span != nil {
		h.span.end(h, x)
	}
	h.request = request{}
}

// logEnd logs why a request got no whole answer.
func (h *handler) logEnd(x *h1.Exchange) {
	ctx, logger := h.p.base, h.p.logger
	if x.End > h1.Unread {
		ctx = h.context()
	}
	switch x.End {
	case h1.ClientGone:
		logger.DebugContext(ctx, "client went away")
	case h1.ClientStalled:
		logger.WarnContext(ctx, "a client does not take its answer; it was cut",
			"remote", h.remote.String(), "KV_WRITE_TIMEOUT", h.p.cfg.WriteTimeout.String())
	case h1.BackendBroke:
		logger.WarnContext(ctx, "backend broke its answer off", "backend", x.Pool.Address, "cause", x.Err.Error())
	case h1.Panicked:
		cause, stack, _ := strings.Cut(x.Err.Error(), "\n")
		logger.ErrorContext(ctx, "panic", "cause", cause, "stack", stack)
	case h1.TooMany:
		h.p.cfg.Requests.Refused()
	case h1.Open, h1.Closing, h1.Unread, h1.Interrupted:
	}
}

// logRequest logs answers of 500 and above at level warn, other failures and slow requests at level
// info, and the rest at level debug. refuse logs what a client had too much of.
func (h *handler) logRequest(x *h1.Exchange) {
	level, message, took := slog.LevelDebug, "request", time.Since(x.Began)
	switch {
	case x.Malformed != nil:
	case x.Status >= http.StatusInternalServerError:
		level = slog.LevelWarn
	case x.Status == http.StatusTooManyRequests:
	case x.Status >= http.StatusBadRequest:
		level, message = slog.LevelInfo, "request failed"
	case took >= slowRequest:
		level, message = slog.LevelInfo, "slow request"
	}
	if !h.p.logger.Enabled(h.p.base, level) {
		return
	}
	method, uri := malformedRoute, ""
	if x.Malformed == nil {
		method, uri, _ = strings.Cut(x.Line(), " ")
	}
	h.p.logger.Log(h.context(), level, message, "method", method, "uri", telemetry.WithoutTokens(uri),
		"status", x.Status, "duration_us", took.Microseconds(), "remote", h.remote.String())
}
