package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"

	"kvstore/internal/settings"
)

// addresses are where the parts listen.
type addresses struct {
	backend, gateway string
	backends         string // KV_BACKENDS, empty if not set
	gatewayURL       string // KV_GATEWAY_URL, empty if not set
	// The backend serves its metrics on KV_METRICS_ADDR, and the gateway on the next
	// port. Empty if not set.
	metrics, gatewayMetrics string
}

// The static configuration traefik/traefik.yml fixes these two.
const (
	webAddress  = ":8000"
	pingAddress = "127.0.0.1:8002"
)

func addressesFrom(getenv func(string) string) addresses {
	or := func(value, fallback string) string {
		if value == "" {
			return fallback
		}
		return value
	}
	metrics := getenv("KV_METRICS_ADDR")
	return addresses{
		metrics: metrics, gatewayMetrics: nextPort(metrics),
		backend:    or(getenv("KV_BACKEND_ADDR"), "127.0.0.1:8080"),
		gateway:    or(getenv("KV_GATEWAY_ADDR"), "127.0.0.1:8001"),
		backends:   getenv("KV_BACKENDS"),
		gatewayURL: getenv("KV_GATEWAY_URL"),
	}
}

// checkFree returns an error that names every address that cannot be listened
// on, since another program does or another part is to.
func (a addresses) checkFree(ctx context.Context) error {
	parts := []settings.Address{
		{Setting: "traefik", Text: webAddress},
		{Setting: "traefik", Text: pingAddress},
		{Setting: "gateway", Text: a.gateway},
		{Setting: "backend", Text: a.backend},
		{Setting: "backend metrics", Text: a.metrics},
		{Setting: "gateway metrics", Text: a.gatewayMetrics}, // of the next port
	}
	errs := settings.Apart(parts...)
	var config net.ListenConfig
	for _, part := range parts {
		if part.Text == "" {
			continue
		}
		listener, err := config.Listen(ctx, "tcp", part.Text)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			errs = append(errs, fmt.Errorf("%s cannot listen on %s: the port is taken by another program", part.Setting, part.Text))
		case err != nil:
			errs = append(errs, fmt.Errorf("%s cannot listen on %s: %w", part.Setting, part.Text, err))
		default:
			_ = listener.Close()
		}
	}
	return errors.Join(errs...)
}

// nextPort returns address with the next port, or address itself when its port is 0
// or none.
func nextPort(address string) string {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return address
	}
	return net.JoinHostPort(host, strconv.FormatUint(port+1, 10))
}

// forGateway is the environment env with KV_BACKENDS, so that a KV_BACKEND_ADDR
// alone is enough to move the backend, and with a KV_METRICS_ADDR of its own.
func (a addresses) forGateway(env []string) []string {
	if a.gatewayMetrics != "" {
		env = append(env, "KV_METRICS_ADDR="+a.gatewayMetrics)
	}
	if a.backends != "" {
		return env
	}
	return append(env, "KV_BACKENDS="+url(a.backend))
}

// stopAtOnce is env with a KV_DRAIN_DELAY for a gateway that has no other beside it to
// take over: Traefik has ended before it, and nobody must be told.
func stopAtOnce(env []string) []string { return append([]string{"KV_DRAIN_DELAY=1ms"}, env...) }

// forTraefik does the same for KV_GATEWAY_ADDR.
func (a addresses) forTraefik(env []string) []string {
	if a.gatewayURL != "" {
		return env
	}
	return append(env, "KV_GATEWAY_URL="+url(a.gateway))
}

// url is where a server that listens on address is reached from this machine.
func url(address string) string {
	if strings.HasPrefix(address, ":") {
		return "http://127.0.0.1" + address
	}
	return "http://" + address
}
