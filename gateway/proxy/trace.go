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

// A span is that of a request, with the one of its way to a backend.
type span struct {
	server, client trace.Span // client is nil when the request was not forwarded
}

const (
	traceparent = "traceparent"
	tracestate  = "tracestate"
)

// startSpan starts the span of the request, within the trace that its traceparent
// names, or as the first of a new one. It began when the request did. The backend's parent
// is this hop, and a state belongs to its traceparent, so the client's headers are dropped.
func (h *handler) startSpan(x *h1.Exchange) *span {
	ctx := propagation.TraceContext{}.Extract(h.p.base, traceFields(x.Fields))
	restarted := !trace.SpanContextFromContext(ctx).IsValid()
	for i := range x.Fields {
		name := x.Fields[i].Name
		if h1.EqualFold(name, traceparent) || restarted && h1.EqualFold(name, tracestate) {
			x.Fields[i].Dropped = true
		}
	}
	method := cmp.Or(h.method, "HTTP")
	_, server := h.p.cfg.Tracer.Start(ctx, method, trace.WithTimestamp(x.Began), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(semconv.HTTPRequestMethodKey.String(method), semconv.URLScheme("http")))
	return &span{server: server}
}

// startClient starts the span of the request's way to a backend, which ends with the
// head of its answer.
func (s *span) startClient(h *handler, x *h1.Exchange) {
	ctx := trace.ContextWithSpan(h.p.base, s.server)
	ctx, s.client = h.p.cfg.Tracer.Start(ctx, h.method, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(semconv.HTTPRequestMethodKey.String(h.method)))
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	x.ToBackend = h1.AppendField(x.ToBackend, []byte(traceparent), carrier[traceparent])
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

// traceFields lets the propagator read the headers of a request. Two traceparents are
// none, as its specification says.
type traceFields []h1.Field

// Get returns the value of a header, those of several joined.
func (f traceFields) Get(name string) string {
	var value []byte
	for i := range f {
		if f[i].Kind != h1.Plain || f[i].Dropped || !h1.EqualFold(f[i].Name, name) {
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
