package proxy

import (
	"cmp"
	"context"
	"net"
	"sync/atomic"
	"time"

	"kvstore/internal/telemetry"
)

// Stats describe what a proxy does now and has done since New.
type Stats struct {
	// Backends in the order of Config.Backends.
	Backends []BackendStats
	// Clients is the number of their connections, Streams that of the streams that
	// are forwarded.
	Clients, Streams int
	// Retries counts the requests that were sent anew on another connection.
	Retries uint64
}

// BackendStats describe one backend.
type BackendStats struct {
	Address string // host:port
	Healthy bool
	// Open counts the connections to it, Idle those of them that no request uses.
	Open, Idle int
	// Dialed counts the connections that were made, DialsFailed those that were not.
	Dialed, DialsFailed uint64
}

// Stats may be called at any time.
func (p *Proxy) Stats() Stats {
	stats := Stats{Streams: int(p.streams.Load()), Retries: p.retries.Load()}
	p.mu.Lock()
	stats.Clients = len(p.conns)
	p.mu.Unlock()
	for _, b := range p.pool.backends {
		b.reserve.mu.Lock()
		idle := len(b.reserve.idle)
		b.reserve.mu.Unlock()
		stats.Backends = append(stats.Backends, BackendStats{
			Address: b.url.Host, Healthy: b.health.Load() == healthy, Open: int(b.open.Load()), Idle: idle,
			Dialed: b.dialed.Load(), DialsFailed: b.dialsFailed.Load(),
		})
	}
	return stats
}

// dials counts connections to a backend.
type dials struct {
	open                atomic.Int64
	dialed, dialsFailed atomic.Uint64
}

// A countedConn is one of those that are open.
type countedConn struct {
	*net.TCPConn

	open   *atomic.Int64
	closed atomic.Bool
}

// Close closes the connection; again it does nothing.
func (c *countedConn) Close() error {
	if !c.closed.CompareAndSwap(false, true) {
		return nil
	}
	c.open.Add(-1)
	return c.TCPConn.Close()
}

// observation is what of a request is kept until its end, when it is observed.
type observation struct {
	route  string
	method string
	span   *span // nil without traces
}

// observe begins the observation of the request whose head was read.
func (c *conn) observe() {
	if c.p.cfg.Requests == nil && c.p.cfg.Tracer == nil {
		return
	}
	c.seenAs.route, c.seenAs.method = malformedRoute, ""
	if c.line != noRequest {
		c.seenAs.route, c.seenAs.method = cmp.Or(c.route.Label, telemetry.OtherRoute), telemetry.KnownMethod(string(c.req.Method))
	}
	if c.p.cfg.Requests != nil {
		c.p.cfg.Requests.Begin()
	}
	if c.p.cfg.Tracer != nil {
		c.seenAs.span = c.startSpan()
	}
}

// observed ends what observe began; when nothing did, it does nothing.
func (c *conn) observed() {
	seen := &c.seenAs
	if seen.route == "" {
		return
	}
	if c.p.cfg.Requests != nil {
		c.p.cfg.Requests.Route(seen.route).Count(seen.method, c.status, time.Since(c.began), c.stream)
		c.p.cfg.Requests.End()
	}
	if seen.span != nil {
		seen.span.end(c)
	}
	*seen = observation{}
}

// context is that of the request, for its log lines.
func (c *conn) context() context.Context {
	ctx := telemetry.WithRequestID(c.p.base, c.id)
	if c.seenAs.span != nil {
		ctx = c.seenAs.span.in(ctx)
	}
	return ctx
}
