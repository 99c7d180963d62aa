package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"kvstore/gateway/access"
	"kvstore/gateway/h1"
	"kvstore/internal/problem"
	"kvstore/internal/settings"
	"kvstore/internal/telemetry"
)

const (
	// malformedRoute is the label of malformed requests.
	malformedRoute = "malformed"
	// slowRequest is how long a request takes that is logged as slow, such as a stream.
	slowRequest = time.Second
)

// Routes returns the labels by which requests are counted: the paths of the OpenAPI document.
func Routes() []string { return append(access.Labels(), malformedRoute) }

// A handler decides about the requests of a connection.
type handler struct {
	p      *Proxy
	remote net.Addr
	ip     string     // of remote
	peer   netip.Addr // the same

	request
}

// A request is what a handler knows of the current request.
type request struct {
	id      string
	client  netip.Addr
	loop    bool // it came through this gateway before
	secure  bool // the client used TLS
	route   access.Match
	grant   access.Grant
	counted bool // clients.leave is due
	stream  bool
	label   string // of the route, in metrics
	method  string // in metrics
	span    *span  // nil without tracing
}

func (p *Proxy) newHandler(remote net.Addr) h1.Handler {
	h := &handler{p: p, remote: remote}
	h.ip, _, _ = net.SplitHostPort(remote.String())
	if peer, err := netip.ParseAddr(h.ip); err == nil { // without TCP, all clients are one
		h.peer = peer.WithZone("").Unmap()
	}
	return h
}

// Decide implements h1.Handler.
func (h *handler) Decide(x *h1.Exchange) h1.Decision {
	if x.Err != nil {
		return h1.Decision{Answer: h.answerFailure(x)}
	}
	h.label = malformedRoute
	if x.Malformed == nil {
		h.readHeaders(x)
		h.route = access.Find(x.Path())
		h.label, h.method = cmp.Or(h.route.Label, telemetry.OtherRoute), telemetry.KnownMethod(string(x.Method))
	} else {
		h.id, h.route = telemetry.RequestIDOr(nil), access.Find(nil)
	}
	x.ToClient = append(appendRequestID(x.ToClient, h.id), securityHeaders...)
	if h.secure {
		x.ToClient = append(x.ToClient, strictTransport...)
	}
	h.observe(x)
	if answer := h.answer(x); answer != nil {
		return h1.Decision{Answer: answer}
	}
	x.ToBackend = append(x.ToBackend, h.grant.Head...)
	if h.span != nil {
		h.span.startClient(h, x)
	}
	order := h.p.forWrite
	if h.reads() {
		order = h.p.forRead
	}
	decision := h1.Decision{Order: order, MaxBody: h.bodyLimit().Bytes, Late: h.route.Kind == access.Guarded}
	if h.stream {
		decision.Stream = h.mayGoOn
	}
	return decision
}

// answer returns the gateway's own answer, or nil for a request that is forwarded.
func (h *handler) answer(x *h1.Exchange) *h1.Answer {
	p, kind := h.p, h.route.Kind
	h.stream = kind == access.Streamed
	switch {
	case x.Malformed != nil:
		return answerMalformed(x.Malformed)
	case h.loop:
		return answerLoop()
	case kind == access.Alive:
		return h.answerAlive(x)
	case x.Surplus:
		p.cfg.Requests.Refused()
		return unavailable("too_many_connections", fmt.Sprintf(
			"The gateway has as many connections as it may have, %d (KV_MAX_CONNECTIONS); nothing was done", p.cfg.MaxConnections))
	case p.clients.overRate(h.client, x.Began):
		return h.refuse("a client sends too much", p.clients.tooFast())
	case kind == access.Insecure:
		return refusal(http.StatusForbidden, "tls_required",
			"The access token was sent without TLS, where others may have seen it; use https://, and a new token")
	case kind == access.Hidden, kind == access.Guarded && p.cfg.Access == nil:
		return refusal(http.StatusNotFound, "not_found", "There is no such endpoint; /docs lists them")
	case kind == access.Health:
		if refused := readOnly(x); refused != nil {
			return refused
		}
	case p.cfg.Access != nil && len(x.Target) > 0: // without a path it is not forwarded
		var denial *access.Denial
		if h.grant, denial = p.cfg.Access.Check(h.route, x.Fields); denial != nil {
			return answerDenial(denial)
		}
	}
	if refused := p.clients.enter(h.client, h.stream); refused != nil {
		return h.refuse("a client has too much under way", refused)
	}
	h.counted = true
	switch err := p.backends.differ(); {
	case kind == access.Health:
		return h.answerHealth(x)
	case err != nil:
		return unavailable("backends_differ", err.Error())
	case len(x.Target) == 0:
		return refusal(http.StatusBadRequest, "bad_request", "The request target has no path")
	}
	return nil
}

// reads reports whether the request is a read, which any backend answers as well. A stream is one.
func (h *handler) reads() bool { return h.method == http.MethodGet || h.method == http.MethodHead }

// refuse refuses a request of a client that sends too many.
func (h *handler) refuse(message string, refused *problem.Problem) *h1.Answer {
	h.p.logger.WarnContext(h.context(), message, "client", h.client.String(), "code", refused.Code)
	h.p.cfg.Requests.Refused()
	return problemAnswer(refused)
}

func (h *handler) bodyLimit() settings.BodyLimit {
	if h.route.Kind == access.Batched {
		return settings.LimitOfBatch(h.p.cfg.MaxValueBytes)
	}
	return settings.LimitOfBody(h.p.cfg.MaxValueBytes)
}

var errRevoked = errors.New("the access token is not valid any more")

// mayGoOn returns an error for a stream whose token has expired or was revoked. Other answers end
// by themselves.
func (h *handler) mayGoOn() error {
	if h.p.cfg.Access != nil && !h.p.cfg.Access.Holds(h.grant) {
		return errRevoked
	}
	return nil
}

// answerFailure answers a request that got no answer from a backend.
func (h *handler) answerFailure(x *h1.Exchange) *h1.Answer {
	err := x.Err
	switch {
	case errors.Is(err, h1.ErrTooLarge):
		return refusal(http.StatusRequestEntityTooLarge, "value_too_large", h.bodyLimit().Exceeded())
	case errors.Is(err, h1.ErrBodyTimeout):
		return refusal(http.StatusRequestTimeout, "request_timeout",
			fmt.Sprintf("body: did not arrive within %s (KV_BODY_TIMEOUT)", h.p.cfg.BodyTimeout))
	case errors.Is(err, h1.ErrBodyMalformed):
		return refusal(http.StatusBadRequest, "bad_request", "The request body is malformed")
	case errors.Is(err, errRevoked):
		return answerDenial(access.Revoked)
	case errors.Is(err, h1.ErrStreamsEnded):
		return unavailable("backend_unavailable", "Backend service is unavailable")
	}
	address := ""
	if x.Pool == nil {
		err = h.p.backends.explain(err)
	} else {
		address = x.Pool.Address
	}
	h.p.logger.WarnContext(h.context(), "no answer from backend", "backend", address, "cause", err.Error())
	switch {
	case errors.Is(err, errLoop):
		return answerLoop()
	case errors.Is(err, ErrBackendsDiffer):
		return unavailable("backends_differ", err.Error())
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refusal(http.StatusGatewayTimeout, "backend_timeout", "Backend service timed out")
	}
	return unavailable("backend_unavailable", "Backend service is unavailable")
}

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
	if x.Pool != nil {
		h.p.backends.count(x.Pool, h.reads())
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

// context returns the context of the request, for log messages.
func (h *handler) context() context.Context {
	ctx := telemetry.WithRequestID(h.p.base, h.id)
	if h.span != nil {
		ctx = h.span.in(ctx)
	}
	return ctx
}
