// Command gateway stands between Traefik and the backends: it forwards every
// request to a backend that works, refuses to mix stores, and bounds what clients
// and backends may do to each other.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"kvstore/gateway/proxy"
	"kvstore/internal/settings"
	"kvstore/internal/telemetry"
)

func main() { os.Exit(telemetry.Main("gateway", run)) }

// run is the whole program: it serves until ctx ends and then returns nil when
// every request in flight was answered. The log goes to stdout.
func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
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
	return serve(ctx, cfg, stdout)
}

// serve listens only after the backends were probed, so that a gateway that
// would mix stores never takes a connection.
func serve(ctx context.Context, cfg config, stdout io.Writer) error {
	logger, err := telemetry.NewLogger(stdout, cfg.logLevel, cfg.logFormat)
	if err != nil {
		return err
	}
	handler, err := proxy.New(ctx, proxy.Config{
		Backends:       cfg.backends,
		BackendTimeout: cfg.backendTimeout,
		MaxValueBytes:  cfg.maxValueBytes,
		Logger:         logger,
	})
	if err != nil {
		return err
	}
	defer handler.Close()
	defer context.AfterFunc(ctx, handler.EndStreams)()
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
