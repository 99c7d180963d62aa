package main

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"kvstore/gateway/access"
	"kvstore/gateway/proxy"
	"kvstore/internal/telemetry"
)

// sight is what the gateway shows of itself to operators. Both parts are nil when
// they are off.
type sight struct {
	metrics *telemetry.Metrics
	tracing *telemetry.Tracing
}

// openSight starts what the settings and the environment ask for. It must be closed,
// after an error too.
func openSight(ctx context.Context, cfg config, getenv func(string) string, logger *slog.Logger) (s sight, err error) {
	if s.metrics, err = telemetry.ServeMetrics(ctx, "gateway", cfg.metricsAddr, logger); err != nil {
		return s, err
	}
	s.tracing, err = telemetry.StartTracing(ctx, "gateway", getenv, logger)
	return s, err
}

// requests returns what counts them, nil for nothing.
func (s *sight) requests() *telemetry.RequestMetrics {
	if s.metrics == nil {
		return nil
	}
	return s.metrics.Requests("kv_gateway", proxy.Routes())
}

// watch shows what the parts count. guard is nil when access control is off.
func (s *sight) watch(p *proxy.Proxy, guard *access.Guard) {
	if s.metrics == nil {
		return
	}
	s.metrics.Register(telemetry.Statistics(func(send telemetry.Send) { sendStats(send, p.Stats()) }))
	if guard != nil {
		s.metrics.Register(telemetry.Statistics(func(send telemetry.Send) { sendAccess(send, guard.State()) }))
	}
}

// close sends the last spans and ends the metrics.
func (s *sight) close() error {
	s.tracing.Close()
	return s.metrics.Close()
}

var (
	clients     = telemetry.Describe("kv_gateway_client_connections", "Connections of clients that are open.")
	streams     = telemetry.Describe("kv_gateway_streams", "Streams that are forwarded.")
	retries     = telemetry.Describe("kv_gateway_retries_total", "Requests that were sent anew on another connection.")
	healthy     = telemetry.Describe("kv_gateway_backend_healthy", "1 when the backend answered its last probe, else 0.", "backend")
	connections = telemetry.Describe("kv_gateway_backend_connections", "Connections to a backend, by whether a request uses them.", "backend", "state")
	tokens      = telemetry.Describe("kv_gateway_tokens", "Access tokens that are in force, expired ones too. Absent without access control.")
	tokensFile  = telemetry.Describe("kv_gateway_tokens_file_usable", "1 when the file of tokens is in force as it is, 0 when it has mistakes or cannot be read.")
	dials       = telemetry.Describe("kv_gateway_backend_dials_total", "Connections that were made, or could not be made, to a backend.", "backend", "result")
)

func sendAccess(send telemetry.Send, state access.State) {
	usable := 0.0
	if state.Usable {
		usable = 1
	}
	send(tokens, prometheus.GaugeValue, float64(state.Tokens))
	send(tokensFile, prometheus.GaugeValue, usable)
}

func sendStats(send telemetry.Send, stats proxy.Stats) {
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	send(clients, gauge, float64(stats.Clients))
	send(streams, gauge, float64(stats.Streams))
	send(retries, counter, float64(stats.Retries))
	for _, b := range stats.Backends {
		well := 0.0
		if b.Healthy {
			well = 1
		}
		send(healthy, gauge, well, b.Address)
		send(connections, gauge, float64(max(0, b.Open-b.Idle)), b.Address, "active")
		send(connections, gauge, float64(b.Idle), b.Address, "idle")
		send(dials, counter, float64(b.Dialed), b.Address, "made")
		send(dials, counter, float64(b.DialsFailed), b.Address, "failed")
	}
}
