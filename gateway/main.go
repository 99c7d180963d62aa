// Command gateway stands between Traefik and the backends: it forwards every
// request to a backend that works, refuses to mix stores, and bounds what clients
// and backends may do to each other.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"

	"kvstore/gateway/access"
	"kvstore/gateway/proxy"
	"kvstore/internal/settings"
	"kvstore/internal/telemetry"
)

func main() { os.Exit(telemetry.Main("gateway", run)) }

// run is the whole program: it serves until ctx ends and then returns nil when
// every request in flight was answered. The log goes to stdout.
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

// serve listens only after the backends were probed, so that a gateway that
// would mix stores never takes a connection.
func serve(ctx context.Context, cfg config, getenv func(string) string, stdout io.Writer) (err error) {
	logger, err := telemetry.NewLogger(stdout, cfg.logLevel, cfg.logFormat)
	if err != nil {
		return err
	}
	sight, err := openSight(ctx, cfg, getenv, logger)
	defer func() { err = errors.Join(err, sight.close()) }()
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
	handler, err := proxy.New(ctx, proxy.Config{
		Backends:       cfg.backends,
		BackendTimeout: cfg.backendTimeout,
		MaxValueBytes:  cfg.maxValueBytes,
		Access:         guard,
		Logger:         logger,
		Requests:       sight.requests(),
		Tracer:         sight.tracing.Tracer(),
		DrainDelay:     cfg.drainDelay,
		MaxConnections: cfg.maxConnections,
		HeaderTimeout:  cfg.headerTimeout,
		BodyTimeout:    cfg.bodyTimeout,
		WriteTimeout:   cfg.writeTimeout,

		RateLimit:            cfg.rateLimit,
		RateBurst:            cfg.rateBurst,
		MaxRequestsPerClient: cfg.maxRequestsPerClient,
		MaxWatchersPerClient: cfg.maxWatchersPerClient,
	})
	if err != nil {
		return err
	}
	defer handler.Close()
	sight.watch(handler, guard)
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

// openGuard returns nil when access is off.
func openGuard(cfg config, logger *slog.Logger) (*access.Guard, error) {
	if cfg.tokensFile == "" {
		// Loud, since a misspelt name of the setting leads here too.
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
