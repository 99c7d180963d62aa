// Command gateway stands between Traefik and the backends. It forwards each request to a
// healthy backend, refuses to mix stores, and bounds what clients and backends may do to each
// other.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"syscall"

	"kvstore/gateway/access"
	"kvstore/gateway/proxy"
	"kvstore/internal/settings"
	"kvstore/internal/telemetry"
)

func main() { os.Exit(telemetry.Main("gateway", run)) }

// run is the program. It serves until ctx ends, and then returns nil if all requests in flight
// were answered. The log goes to stdout.
func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	if len(args) > 0 && args[0] == "token" {
		return runToken(args[1:], getenv, stdout)
	}
	cfg, err := parseConfig(args, getenv, stdout)
	switch {
	case errors.Is(err, settings.ErrHelp):
		return nil
	case err != nil:
		return err
	case cfg.version:
		_, err := fmt.Fprintln(stdout, telemetry.VersionLine("gateway"))
		return err
	case cfg.healthcheck:
		return telemetry.Healthcheck(ctx, cfg.addr, "/healthz")
	}
	return serve(ctx, cfg, getenv, stdout)
}

// serve probes the backends before it listens, so that a gateway that would mix stores accepts
// no connection.
func serve(ctx context.Context, cfg config, getenv func(string) string, stdout io.Writer) (err error) {
	logger, err := telemetry.NewLogger(stdout, cfg.logLevel, cfg.logFormat)
	if err != nil {
		return err
	}
	observed, err := startObservability(ctx, cfg, getenv, logger)
	defer func() { err = errors.Join(err, observed.close()) }()
	if err != nil {
		return err
	}
	guard, err := openGuard(cfg, logger)
	if err != nil {
		return err
	}
	if guard != nil {
		defer guard.Close()
	}
	cfg.proxy.MaxConnections = connectionLimit(cfg.proxy.MaxConnections, logger)
	cfg.proxy.Access, cfg.proxy.Logger = guard, logger
	cfg.proxy.Requests, cfg.proxy.Tracer = observed.metrics.Requests("kv_gateway", proxy.Routes()), observed.tracing.Tracer()
	handler, err := proxy.New(ctx, cfg.proxy)
	if err != nil {
		return err
	}
	defer handler.Close()
	observed.register(handler, guard)
	if ctx.Err() != nil {
		return nil // stopped before it began
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.addr)
	if err != nil {
		return fmt.Errorf("listen on KV_GATEWAY_ADDR: %w", err)
	}
	if err := handler.Serve(ctx, listener); err != nil {
		return err
	}
	logger.Info("stopped")
	return nil
}

// openGuard returns nil if access control is off.
func openGuard(cfg config, logger *slog.Logger) (*access.Guard, error) {
	if cfg.tokensFile == "" {
		// At level info, since a misspelled name of the setting leads here too.
		logger.Info("access control is off: whoever reaches this gateway may read, write and destroy everything", "setting", "KV_TOKENS_FILE")
		return nil, nil
	}
	guard, err := access.Open(access.Config{Path: cfg.tokensFile, Logger: logger})
	if err != nil {
		return nil, &settings.Error{Mistakes: []error{fmt.Errorf("KV_TOKENS_FILE: %w", err)}}
	}
	logger.Info("access control is on", "path", cfg.tokensFile, "tokens", guard.State().Tokens)
	return guard, nil
}

// otherFiles is how many open files there may be beside connections.
const otherFiles = 128

// connectionLimit returns how many clients' connections there may be: at most most, and no more
// than there are open files for. Each may need another connection, to a backend.
func connectionLimit(most int, logger *slog.Logger) int {
	var files syscall.Rlimit
	// The Go runtime has raised the soft limit to the hard one.
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur > math.MaxInt32 {
		return most
	}
	possible := max((int(files.Cur)-otherFiles)/2, 1)
	if possible < most {
		logger.Info("fewer connections than KV_MAX_CONNECTIONS, for want of open files (ulimit -n)",
			"connections", possible, "KV_MAX_CONNECTIONS", most, "files", files.Cur)
	}
	return min(possible, most)
}
