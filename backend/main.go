// Command backend is the server behind the gateway. It stores every version of every key
// in SQLite or on PostgreSQL, serves reads from a cache if it can, and answers HTTP. It also works without
// a gateway.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"

	"kvstore/backend/api"
	"kvstore/backend/cache"
	"kvstore/backend/kv"
	"kvstore/backend/store"
	"kvstore/internal/settings"
	"kvstore/internal/telemetry"
)

func main() { os.Exit(telemetry.Main("backend", run)) }

// run is the program. It serves until ctx ends, or runs the command in args.
func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	var owner string
	var dryRun, force bool
	c, rest, err := parseConfig(args, getenv, stdout, func(set *settings.Set) {
		set.Text(&owner, "owner", "uid:gid", "for the commands prepare and backup: the new owner of the files")
		set.Bool(&dryRun, "dry-run", "for the command import: report what it would do, but change nothing")
		set.Bool(&force, "force", "for the command backup: replace FILE if it exists")
	})
	switch {
	case errors.Is(err, settings.ErrHelp):
		return nil
	case err != nil:
		return err
	case c.version:
		_, err := fmt.Fprintln(stdout, telemetry.VersionLine("backend"))
		return err
	case len(rest) > 0:
		return command{config: c, owner: owner, dryRun: dryRun, force: force, out: stdout}.run(ctx, rest[0], rest[1:])
	}
	logger, err := telemetry.NewLogger(stdout, c.logLevel, c.logFormat)
	if err != nil {
		return err
	}
	return serve(ctx, c, getenv, logger)
}

// serve opens the database, the cache and the store, serves until ctx ends, and closes
// them in reverse order.
func serve(ctx context.Context, c config, getenv func(string) string, logger *slog.Logger) (err error) {
	// Listen first, so that a second backend fails before it does anything else.
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.addr)
	if err != nil {
		return fmt.Errorf("listen on KV_BACKEND_ADDR: %w", err)
	}
	defer listener.Close()
	observed, err := startObservability(ctx, c, getenv, logger)
	defer func() { err = errors.Join(err, observed.close()) }()
	if err != nil {
		return err
	}
	db, err := c.openDatabase(ctx, logger, observed.tracing.Tracer())
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		logger.Info("stopped before the database was opened")
		return nil
	case err != nil:
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	entries, err := cache.New(cache.Config[kv.Entry]{
		MaxKeys:  c.cacheMaxKeys,
		MaxBytes: c.cacheMaxBytes,
		Size:     func(_ string, e kv.Entry) int64 { return e.Size() },
	})
	if err != nil {
		return err
	}
	defer entries.Close()

	st, err := store.New(store.Config{
		Database: db, Cache: entries, MaxValueBytes: c.maxValueBytes,
		MaxVersions: c.maxVersions, MaxVersionAge: c.maxVersionAge, MaxWatchers: c.maxWatchers,
		MaxQueuedWrites: c.maxWrites, MaxQueuedBytes: c.maxBytes, Logger: logger, Observe: observed.transactions(),
	})
	if err != nil {
		return err
	}
	defer st.Close()
	defer context.AfterFunc(ctx, st.EndWatches)() // otherwise the drain would wait for them
	logger.Info("store opened", "store", st.ID(), "database", c.databaseName())

	handler := api.New(api.Config{
		Store: st, Logger: logger, Metrics: observed.register(st, db, logger), Tracer: observed.tracing.Tracer(),
		MaxRequests: c.maxRequests, MaxBodyBytes: c.maxBytes,
	})
	if err := telemetry.Serve(ctx, listener, handler, logger); err != nil {
		return err
	}
	logger.Info("stopped")
	return nil
}
