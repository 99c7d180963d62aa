package proxy

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"

	"kvstore/gateway/wire"
	"kvstore/internal/telemetry"
)

// A span is that of a request, with the one of its way to a backend.
type span struct {
	server, client trace.Span // client is nil outside of forward
	// parent is the traceparent that the backend gets.
	parent string
	// restarted says that the client named no trace that is one.
	restarted bool
}

const (
	traceparent = "traceparent"
	tracestate  = "tracestate"
)

// startSpan starts the span of the request, within the trace that its traceparent
// names, or as the first of a new one. It began when the request did.
func (c *conn) startSpan() *span {
	ctx := propagation.TraceContext{}.Extract(c.p.base, traceFields(c.req.Fields))
	s := &span{restarted: !trace.SpanContextFromContext(ctx).IsValid()}
	method := c.seenAs.method
	if method == "" {
		method = "HTTP"
	}
	_, s.server = c.p.cfg.Tracer.Start(ctx, method, trace.WithTimestamp(c.began), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(semconv.HTTPRequestMethodKey.String(method), semconv.URLScheme("http")))
	return s
}

// startClient starts the span of the request's way to a backend, which ends with the
// head of its answer.
func (s *span) startClient(c *conn) {
	ctx := trace.ContextWithSpan(c.p.base, s.server)
	ctx, s.client = c.p.cfg.Tracer.Start(ctx, c.seenAs.method, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(semconv.HTTPRequestMethodKey.String(c.seenAs.method)))
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	s.parent = carrier[traceparent]
}

// endClient ends it. up is nil when no connection was made.
func (s *span) endClient(c *conn, up *upstream, err error) {
	if s.client == nil {
		return
	}
	if up != nil {
		s.client.SetAttributes(semconv.ServerAddress(up.backend.url.Hostname()), attribute.Bool("kv.connection.reused", up.reused))
	}
	if err != nil {
		s.client.SetStatus(codes.Error, "no answer")
	} else {
		s.client.SetAttributes(semconv.HTTPResponseStatusCode(c.res.Status))
		if c.res.Status >= http.StatusBadRequest {
			s.client.SetStatus(codes.Error, "")
		}
	}
	s.client.End()
	s.client = nil
}

func (s *span) end(c *conn) {
	route := c.seenAs.route
	if route == malformedRoute {
		route = telemetry.OtherRoute
	}
	if c.status != 0 {
		telemetry.DescribeRequest(s.server, c.seenAs.method, route, c.id, c.status)
	}
	s.server.End()
}

// in returns ctx with the span of the request.
func (s *span) in(ctx context.Context) context.Context { return trace.ContextWithSpan(ctx, s.server) }

// replaces reports whether the header of that name is not to be sent on as it came:
// the backend's parent is this hop, and a state belongs to its traceparent.
func (s *span) replaces(name []byte) bool {
	return s != nil && (wire.EqualFold(name, traceparent) || s.restarted && wire.EqualFold(name, tracestate))
}

// traceFields lets the propagator read the headers of a request. Two traceparents are
// none, as its specification says.
type traceFields []wire.Field

// Get returns the value of a header, those of several joined.
func (f traceFields) Get(name string) string {
	var value []byte
	for i := range f {
		if f[i].Kind != wire.Plain || f[i].Named || !wire.EqualFold(f[i].Name, name) {
			continue
		}
		if value != nil {
			value = append(value, ',')
		}
		value = append(value, f[i].Value...)
	}
	return string(value)
}

// Set does nothing: the propagator only reads here.
func (f traceFields) Set(string, string) {}

// Keys is not called to read a trace.
func (f traceFields) Keys() []string { return nil }
