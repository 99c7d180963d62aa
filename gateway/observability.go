package main

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"kvstore/gateway/access"
	"kvstore/gateway/proxy"
	"kvstore/internal/telemetry"
)

// observability holds the metrics and the tracing of the gateway. Each is nil if it is off.
type observability struct {
	metrics *telemetry.Metrics
	tracing *telemetry.Tracing
}

// startObservability starts what the settings and the environment ask for. The caller must
// close it, even after an error.
func startObservability(
	ctx context.Context, cfg config, getenv func(string) string, logger *slog.Logger,
) (o observability, err error) {
	if o.metrics, err = telemetry.ServeMetrics(ctx, "gateway", cfg.metricsAddr, logger); err != nil {
		return o, err
	}
	o.tracing, err = telemetry.StartTracing(ctx, "gateway", getenv, logger)
	return o, err
}

// register adds the metrics of p, and of guard unless it is nil.
func (o *observability) register(p *proxy.Proxy, guard *access.Guard) {
	o.metrics.Register(telemetry.Statistics(func(send telemetry.Send) { sendStats(send, p.Stats()) }))
	if guard != nil {
		o.metrics.Register(telemetry.Statistics(func(send telemetry.Send) { sendAccess(send, guard.State()) }))
	}
}

// close sends the last spans and stops serving metrics.
func (o *observability) close() error {
	o.tracing.Close()
	return o.metrics.Close()
}

var (
	clients     = telemetry.Describe("kv_gateway_client_connections", "Connections of clients that are open.")
	streams     = telemetry.Describe("kv_gateway_streams", "Streams that are forwarded.")
	retries     = telemetry.Describe("kv_gateway_retries_total", "Requests that were sent anew on another connection.")
	healthy     = telemetry.Describe("kv_gateway_backend_healthy", "1 when the backend was ready and did not lag at its last probe, else 0.", "backend")
	lag         = telemetry.Describe("kv_gateway_backend_lag_seconds", lagHelp, "backend")
	revision    = telemetry.Describe("kv_gateway_backend_revision", "Revision of the backend at its last probe, 0 with SQLite. Absent when it was not ready.", "backend")
	differ      = telemetry.Describe("kv_gateway_backends_differ", "1 while backends serve different stores, so that all requests are refused, else 0.")
	requests    = telemetry.Describe("kv_gateway_backend_requests_total", "Requests that were sent to a backend, by kind: read or write.", "backend", "kind")
	diverted    = telemetry.Describe("kv_gateway_writes_diverted_total", "Writes that were sent to another backend than the first of KV_BACKENDS.")
	connections = telemetry.Describe("kv_gateway_backend_connections", "Connections to a backend, by whether a request uses them.", "backend", "state")
	tokens      = telemetry.Describe("kv_gateway_tokens", "Access tokens that are in force, expired ones too. Absent without access control.")
	tokensFile  = telemetry.Describe("kv_gateway_tokens_file_usable", "1 when the file of tokens is in force as it is, 0 when it has mistakes or cannot be read.")
	dials       = telemetry.Describe("kv_gateway_backend_dials_total", "Connections that were made, or could not be made, to a backend.", "backend", "result")
)

const lagHelp = "How long the backend, at its last probe, had gone without confirming that it has the store's last commit. Absent when it was not ready."

func sendAccess(send telemetry.Send, state access.State) {
	send(tokens, prometheus.GaugeValue, float64(state.Tokens))
	send(tokensFile, prometheus.GaugeValue, oneIf(state.Usable))
}

func oneIf(condition bool) float64 {
	if condition {
		return 1
	}
	return 0
}

func sendStats(send telemetry.Send, stats proxy.Stats) {
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	send(clients, gauge, float64(stats.Clients))
	send(streams, gauge, float64(stats.Streams))
	send(retries, counter, float64(stats.Retries))
	send(differ, gauge, oneIf(stats.Differ))
	var elsewhere uint64
	for i, b := range stats.Backends {
		send(healthy, gauge, oneIf(b.Healthy), b.Address)
		if b.Ready {
			send(lag, gauge, b.Lag.Seconds(), b.Address)
			send(revision, gauge, float64(b.Revision), b.Address)
		}
		send(requests, counter, float64(b.Reads), b.Address, "read")
		send(requests, counter, float64(b.Writes), b.Address, "write")
		if i > 0 {
			elsewhere += b.Writes
		}
		send(connections, gauge, float64(max(0, b.Open-b.Idle)), b.Address, "active")
		send(connections, gauge, float64(b.Idle), b.Address, "idle")
		send(dials, counter, float64(b.Dialed), b.Address, "made")
		send(dials, counter, float64(b.DialsFailed), b.Address, "failed")
	}
	send(diverted, counter, float64(elsewhere))
}
