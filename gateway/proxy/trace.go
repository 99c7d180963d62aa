package proxy

import (
	"cmp"
	"context"
	"net"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"

	"kvstore/gateway/h1"
	"kvstore/internal/telemetry"
)

// A span has the spans of a request, and of its way to a backend if it was forwarded.
type span struct {
	server, client trace.Span // client may be nil
}

const (
	traceparent = "traceparent"
	tracestate  = "tracestate"
)

// startSpan starts the span of the request, in the trace that its headers name or in a new one. It
// drops these headers, since the backend's parent is this hop.
func (h *handler) startSpan(x *h1.Exchange) *span {
	carrier := propagation.MapCarrier{}
	for i := range x.Fields {
		for _, name := range []string{traceparent, tracestate} {
			field := &x.Fields[i]
			if field.Kind != h1.Plain || field.Dropped || !h1.EqualFold(field.Name, name) {
				continue
			}
			if value, twice := carrier[name]; twice { // two traceparents are none, says the specification
				carrier[name] = value + "," + string(field.Value)
			} else {
				carrier[name] = string(field.Value)
			}
			field.Dropped = true
		}
	}
	ctx := propagation.TraceContext{}.Extract(h.p.base, carrier)
	method := cmp.Or(h.method, "HTTP")
	_, server := h.p.cfg.Tracer.Start(ctx, method, trace.WithTimestamp(x.Began), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(semconv.HTTPRequestMethodKey.String(method), semconv.URLScheme("http")))
	return &span{server: server}
}

// startClient starts the span of the request's way to a backend, which ends with the head of the
// answer.
func (s *span) startClient(h *handler, x *h1.Exchange) {
	ctx := trace.ContextWithSpan(h.p.base, s.server)
	ctx, s.client = h.p.cfg.Tracer.Start(ctx, h.method, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(semconv.HTTPRequestMethodKey.String(h.method)))
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	for name, value := range carrier {
		x.ToBackend = h1.AppendField(x.ToBackend, []byte(name), value)
	}
}

func (s *span) end(h *handler, x *h1.Exchange) {
	if s.client != nil {
		s.endClient(x)
	}
	route := h.label
	if route == malformedRoute {
		route = telemetry.OtherRoute
	}
	if x.Status != 0 {
		telemetry.DescribeRequest(s.server, h.method, route, h.id, x.Status)
	}
	s.server.End()
}

func (s *span) endClient(x *h1.Exchange) {
	if x.Pool != nil {
		host, _, _ := net.SplitHostPort(x.Pool.Address)
		s.client.SetAttributes(semconv.ServerAddress(host), attribute.Bool("kv.connection.reused", x.Reused))
	}
	if x.Answered.IsZero() {
		s.client.SetStatus(codes.Error, "no answer")
		s.client.End()
		return
	}
	s.client.SetAttributes(semconv.HTTPResponseStatusCode(x.Status))
	if x.Status >= http.StatusBadRequest {
		s.client.SetStatus(codes.Error, "")
	}
	s.client.End(trace.WithTimestamp(x.Answered))
}

// in returns ctx with the span of the request.
func (s *span) in(ctx context.Context) context.Context { return trace.ContextWithSpan(ctx, s.server) }
