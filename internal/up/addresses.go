package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"

	"kvstore/internal/settings"
)

// addresses are the addresses of the programs.
type addresses struct {
	backend, gateway string
	backends         string // KV_BACKENDS, or ""
	gatewayURL       string // KV_GATEWAY_URL, or ""
	// The backend serves its metrics on KV_METRICS_ADDR, and the gateway on the next port.
	metrics, gatewayMetrics string
}

// These two are fixed in traefik/traefik.yml.
const (
	webAddress  = ":8000"
	pingAddress = "127.0.0.1:8002"
)

func addressesFrom(getenv func(string) string) addresses {
	metrics := getenv("KV_METRICS_ADDR")
	return addresses{
		metrics: metrics, gatewayMetrics: nextPort(metrics),
		backend:    cmp.Or(getenv("KV_BACKEND_ADDR"), "127.0.0.1:8080"),
		gateway:    cmp.Or(getenv("KV_GATEWAY_ADDR"), "127.0.0.1:8001"),
		backends:   getenv("KV_BACKENDS"),
		gatewayURL: getenv("KV_GATEWAY_URL"),
	}
}

// checkFree returns an error that names every address that is taken by another program or
// used twice.
func (a addresses) checkFree(ctx context.Context) error {
	parts := []settings.Address{
		{Setting: "traefik", Text: webAddress},
		{Setting: "traefik", Text: pingAddress},
		{Setting: "gateway", Text: a.gateway},
		{Setting: "backend", Text: a.backend},
		{Setting: "backend metrics", Text: a.metrics},
		{Setting: "gateway metrics", Text: a.gatewayMetrics},
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
			errs = append(errs, fmt.Errorf("%s cannot listen on %s: the port is taken by another program",
				part.Setting, part.Text))
		case err != nil:
			errs = append(errs, fmt.Errorf("%s cannot listen on %s: %w", part.Setting, part.Text, err))
		default:
			_ = listener.Close()
		}
	}
	return errors.Join(errs...)
}

// nextPort returns address with the next port, or address itself if its port is 0 or
// missing.
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

// forGateway adds the gateway's KV_METRICS_ADDR and KV_BACKENDS to env. So setting
// KV_BACKEND_ADDR is enough to move the backend.
func (a addresses) forGateway(env []string) []string {
	if a.gatewayMetrics != "" {
		env = append(env, "KV_METRICS_ADDR="+a.gatewayMetrics)
	}
	if a.backends != "" {
		return env
	}
	return append(env, "KV_BACKENDS="+url(a.backend))
}

// stopAtOnce adds a default KV_DRAIN_DELAY to env: the gateway stops after Traefik, so no
// load balancer has to notice.
func stopAtOnce(env []string) []string { return append([]string{"KV_DRAIN_DELAY=1ms"}, env...) }

// forTraefik adds KV_GATEWAY_URL to env, so that setting KV_GATEWAY_ADDR is enough to move
// the gateway.
func (a addresses) forTraefik(env []string) []string {
	if a.gatewayURL != "" {
		return env
	}
	return append(env, "KV_GATEWAY_URL="+url(a.gateway))
}

// url returns the URL of a server on this machine that listens on address.
func url(address string) string {
	if strings.HasPrefix(address, ":") {
		return "http://127.0.0.1" + address
	}
	return "http://" + address
}
