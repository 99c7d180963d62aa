package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"kvstore/gateway/proxy"
	"kvstore/internal/settings"
)

const usage = `gateway forwards the requests of the key-value store to its backends.

Usage:
  gateway [flags]              serve until SIGTERM or SIGINT
  gateway healthcheck [flags]  exit with 0 when the gateway at --gateway-addr answers
  gateway token [--help]       make, list and revoke access tokens`

const most = 1_000_000 // largest value of counts

// config is what the settings say.
type config struct {
	proxy       proxy.Config
	addr        string
	tokensFile  string // empty: no access control
	metricsAddr string
	logLevel    string
	logFormat   string
	version     bool // print it and end
	healthcheck bool // ask a running gateway and end
}

// parseConfig reads args and the environment, and writes help to out. The error is
// settings.ErrHelp, or a *settings.Error with every mistake.
func parseConfig(args []string, getenv func(string) string, out io.Writer) (config, error) {
	var cfg config
	set := settings.New("gateway", usage, out)
	var backends string
	set.Address(&cfg.addr, "gateway-addr", "127.0.0.1:8001")
	set.String(&backends, "backends", "urls", "http://127.0.0.1:8080",
		"base URLs of the backends, comma-separated; several must serve the same store; reads go to all, and writes to the "+
			"first healthy one, so give every gateway the same order",
		func(text string) (err error) {
			cfg.proxy.Backends, err = parseBackends(text)
			return err
		})
	set.Duration(&cfg.proxy.BackendTimeout, "backend-timeout", "30s", 10*time.Millisecond, time.Hour,
		"how long a backend may take to begin its answer, and for each next part; /watch may take longer")
	set.Duration(&cfg.proxy.MaxLag, "max-lag", "1s", 10*time.Millisecond, time.Hour,
		"how long a backend may go without confirming that it has the store's last commit; after that, others are preferred")
	set.MaxValueBytes(&cfg.proxy.MaxValueBytes)
	set.TokensFile(&cfg.tokensFile)
	set.Metrics(&cfg.metricsAddr)
	set.Check(func() []error {
		return settings.Apart(settings.Address{Setting: "KV_GATEWAY_ADDR", Text: cfg.addr}, settings.Address{Setting: "KV_METRICS_ADDR", Text: cfg.metricsAddr})
	})
	cfg.limits(set)
	set.Duration(&cfg.proxy.DrainDelay, "drain-delay", "5s", time.Millisecond, time.Minute,
		"how long a stopping gateway serves on at most, for load balancers to learn from /healthz that it stops")
	set.Logging(&cfg.logLevel, &cfg.logFormat)
	set.Bool(&cfg.version, "version", "print the version and exit")

	rest, err := set.Parse(args, getenv)
	if errors.Is(err, settings.ErrHelp) {
		return cfg, err
	}
	if cfg.version { // even if something is wrong
		return cfg, nil
	}
	if err != nil {
		return cfg, err
	}
	if len(rest) > 0 && rest[0] == "healthcheck" {
		cfg.healthcheck, rest = true, rest[1:]
	}
	var mistakes []error
	for _, argument := range rest {
		mistakes = append(mistakes, fmt.Errorf("unknown argument %q", argument))
	}
	for _, b := range cfg.proxy.Backends {
		if reaches(b, cfg.addr) {
			mistakes = append(mistakes, fmt.Errorf("%s is the gateway's own address, it cannot be a backend", b))
		}
		if reaches(b, cfg.metricsAddr) {
			mistakes = append(mistakes, fmt.Errorf("%s is the address of the gateway's metrics, it cannot be a backend", b))
		}
	}
	if len(mistakes) > 0 {
		return cfg, &settings.Error{Mistakes: mistakes}
	}
	return cfg, nil
}

// reaches reports whether b leads to a program on this machine that listens on address, as far as
// the texts tell. The only name that it resolves is localhost.
func reaches(b *url.URL, address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port != b.Port() {
		return false
	}
	if host == b.Hostname() {
		return true
	}
	target, listens := addressOf(b.Hostname()), addressOf(host)
	everywhere := host == "" || listens.IsUnspecified()
	local := target.IsLoopback() || target.IsUnspecified()
	return local && (everywhere || target.IsUnspecified() && listens.IsLoopback() || target == listens)
}

// addressOf returns an invalid address for a name.
func addressOf(host string) netip.Addr {
	if host == "localhost" {
		host = "127.0.0.1"
	}
	ip, _ := netip.ParseAddr(host)
	return ip.Unmap()
}

// limits adds the settings that bound what clients may take.
func (cfg *config) limits(set *settings.Set) {
	set.Int(&cfg.proxy.MaxConnections, "max-connections", "connections", 16_384, 1, most,
		"most connections of clients at once, idle ones too; more get 503")
	set.Int(&cfg.proxy.RateLimit, "rate-limit", "requests", 50_000, 0, most,
		"most requests of one client address in a second, on average; more get 429; 0 means no limit")
	set.Int(&cfg.proxy.RateBurst, "rate-burst", "requests", 100_000, 1, most,
		"most requests of one client address at once, above that average")
	set.Int(&cfg.proxy.MaxRequestsPerClient, "max-requests-per-client", "requests", 4_000, 1, most,
		"most requests of one client address under way at once, /watch included; more get 429")
	set.Int(&cfg.proxy.MaxWatchersPerClient, "max-watchers-per-client", "watchers", 1_000, 1, most,
		"most streams of /watch of one client address at once; more get 429")
	set.Duration(&cfg.proxy.HeaderTimeout, "header-timeout", "10s", 100*time.Millisecond, time.Hour,
		"how long a client may take to send its headers; more gets 408")
	set.Duration(&cfg.proxy.BodyTimeout, "body-timeout", "0", 0, 24*time.Hour,
		"how long a client may take to send its body; more gets 408; 0 means 1m, and 1s more for each 64KiB of the largest value")
	set.Duration(&cfg.proxy.WriteTimeout, "write-timeout", "30s", 100*time.Millisecond, 24*time.Hour,
		"how long a client may take for each 32KiB of an answer; then it is cut")
}

// parseBackends parses a list of base URLs. The error names every bad one.
func parseBackends(text string) ([]*url.URL, error) {
	var backends []*url.URL
	var mistakes []string
	seen := map[string]bool{}
	for element := range strings.SplitSeq(text, ",") {
		element = strings.TrimSpace(element)
		u, err := parseBackend(element)
		switch {
		case err != nil:
			mistakes = append(mistakes, fmt.Sprintf("%q %s", element, err))
		case seen[u.Host]:
			mistakes = append(mistakes, fmt.Sprintf("%q is given twice", element))
		default:
			seen[u.Host] = true
			backends = append(backends, u)
		}
	}
	if len(mistakes) > 0 {
		return nil, errors.New(strings.Join(mistakes, "; "))
	}
	return backends, nil
}

func parseBackend(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" {
		return nil, errors.New("must be http://host:port")
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
		return nil, errors.New("must have a port from 1 to 65535, as http://host:port has")
	}
	host := strings.ToLower(u.Host)
	if rest := strings.ToLower(text); rest != "http://"+host {
		return nil, errors.New("must be http://host:port and nothing more: no path, query or user")
	}
	return &url.URL{Scheme: "http", Host: host}, nil
}
