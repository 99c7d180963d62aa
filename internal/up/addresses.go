package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"kvstore/internal/settings"
)

// A layout says how many programs run, and where the first of each kind listens by default.
type layout struct {
	backends, gateways         int
	firstBackend, firstGateway string
}

var (
	one     = layout{1, 1, "127.0.0.1:8080", "127.0.0.1:8001"}
	several = layout{3, 2, "127.0.0.1:8081", "127.0.0.1:8011"} // and the next ports
)

// A part is one backend or gateway.
type part struct {
	name, address string
	metrics       string // the address of its metrics, or ""
}

// addresses are the addresses of the programs.
type addresses struct {
	backends, gateways []part
	backendURLs        string             // KV_BACKENDS, or ""
	gatewayURLs        string             // KV_GATEWAY_URL, or ""
	servers            []settings.Address // of PostgreSQL
}

// These two are fixed in traefik/traefik.yml.
const (
	webAddress  = ":8000"
	pingAddress = "127.0.0.1:8002"
)

// addressesFrom returns the addresses for a layout. Metrics are served on KV_METRICS_ADDR and the
// next ports, first those of the backends.
func addressesFrom(getenv func(string) string, l layout) addresses {
	metrics := getenv("KV_METRICS_ADDR")
	parts := func(kind, first string, count, before int) (list []part) {
		for i := range count {
			name := kind
			if count > 1 {
				name = fmt.Sprintf("%s-%d", kind, i+1)
			}
			list = append(list, part{name, addPort(first, i), addPort(metrics, before+i)})
		}
		return list
	}
	return addresses{
		backends:    parts("backend", cmp.Or(getenv("KV_BACKEND_ADDR"), l.firstBackend), l.backends, 0),
		gateways:    parts("gateway", cmp.Or(getenv("KV_GATEWAY_ADDR"), l.firstGateway), l.gateways, l.backends),
		backendURLs: getenv("KV_BACKENDS"),
		gatewayURLs: getenv("KV_GATEWAY_URL"),
	}
}

// checkFree returns an error that names every address that is taken by another program or
// used twice.
func (a addresses) checkFree(ctx context.Context) error {
	parts := slices.Concat(a.servers, []settings.Address{{Setting: "traefik", Text: webAddress}, {Setting: "traefik", Text: pingAddress}})
	for _, p := range slices.Concat(a.gateways, a.backends) {
		parts = append(parts, settings.Address{Setting: p.name, Text: p.address})
	}
	for _, p := range slices.Concat(a.backends, a.gateways) {
		parts = append(parts, settings.Address{Setting: p.name + " metrics", Text: p.metrics})
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

// addPort returns address with its port plus n, or address itself if its port is 0 or missing.
func addPort(address string, n int) string {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return address
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)+n))
}

// environment returns the environment of this process with the address of p in the setting name, and that
// of its metrics.
func (p part) environment(name string) []string {
	env := append(os.Environ(), name+"="+p.address)
	if p.metrics != "" {
		env = append(env, "KV_METRICS_ADDR="+p.metrics)
	}
	return env
}

// forGateways returns the setting that names the backends, or nothing if it is set. So setting
// KV_BACKEND_ADDR is enough to move them.
func (a addresses) forGateways() []string {
	if a.backendURLs != "" {
		return nil
	}
	return []string{"KV_BACKENDS=" + urls(a.backends)}
}

// forTraefik returns the setting that names the gateways, or nothing if it is set. So setting
// KV_GATEWAY_ADDR is enough to move them.
func (a addresses) forTraefik() []string {
	if a.gatewayURLs != "" {
		return nil
	}
	return []string{"KV_GATEWAY_URL=" + urls(a.gateways)}
}

// urls returns the URLs of the parts, comma-separated.
func urls(parts []part) string {
	list := make([]string, len(parts))
	for i, p := range parts {
		list[i] = p.url()
	}
	return strings.Join(list, ",")
}

// url returns the URL of a part on this machine.
func (p part) url() string {
	if strings.HasPrefix(p.address, ":") {
		return "http://127.0.0.1" + p.address
	}
	return "http://" + p.address
}
