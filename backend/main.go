// Command backend is the server behind the gateway: it keeps every version of
// every key in SQLite, serves reads from a cache first, and answers HTTP. Alone on
// its address it is a whole, single service.
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
	"kvstore/backend/database"
	"kvstore/backend/kv"
	"kvstore/backend/store"
	"kvstore/internal/settings"
	"kvstore/internal/telemetry"
)

func main() { os.Exit(telemetry.Main("backend", run)) }

// run is the program: it serves, or does what the command in args says, and
// returns when that is done or ctx ends.
func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	var owner string
	var dryRun, force bool
	c, rest, err := parseConfig(args, getenv, stdout, func(set *settings.Set) {
		set.Text(&owner, "owner", "uid:gid", "for the commands prepare and backup: whom the files are given to")
		set.Bool(&dryRun, "dry-run", "for the command import: say what it would do, and keep nothing")
		set.Bool(&force, "force", "for the command backup: replace FILE when it exists")
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

// serve opens the parts from the database up, serves until ctx ends, and closes
// them in the opposite order.
func serve(ctx context.Context, c config, getenv func(string) string, logger *slog.Logger) (err error) {
	// The address first: a second backend should say so before anything else.
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.addr)
	if err != nil {
		return fmt.Errorf("listen on KV_BACKEND_ADDR: %w", err)
	}
	defer listener.Close()
	sight, err := openSight(ctx, c, getenv, logger)
	defer func() { err = errors.Join(err, sight.close()) }()
	if err != nil {
		return err
	}
	db, err := database.Open(ctx, database.Config{URL: c.databaseURL, Logger: logger, Tracer: sight.tracing.Tracer()})
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		logger.Info("stopped before the database was open")
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
		MaxQueuedWrites: c.maxWrites, MaxQueuedBytes: c.maxBytes, Logger: logger, Observe: sight.observer(),
	})
	if err != nil {
		return err
	}
	defer st.Close()
	defer context.AfterFunc(ctx, st.EndWatches)() // else the drain would wait for them
	logger.Info("store opened", "store", st.ID(), "database", c.databaseURL)

	options := append(sight.options(st, logger), api.Limits(c.maxRequests, c.maxBytes))
	if err := telemetry.Serve(ctx, listener, api.New(st, logger, options...), logger); err != nil {
		return err
	}
	logger.Info("stopped")
	return nil
}
