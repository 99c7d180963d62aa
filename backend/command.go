package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/database/postgres"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/importer"
	"kvstore/internal/settings"
	"kvstore/internal/telemetry"
)

// A command is anything that the program does besides serving.
type command struct {
	config config
	owner  string // for prepare and backup
	dryRun bool   // for import
	force  bool   // for backup
	out    io.Writer
}

func (c command) run(ctx context.Context, name string, args []string) error {
	commands := map[string]struct {
		args string // in brackets if optional
		do   func(ctx context.Context, args []string) error
	}{
		"backup":      {"FILE", c.backup},
		"restore":     {"FILE", c.restore},
		"move":        {"URL", c.move},
		"check":       {"[FILE]", c.check},
		"compact":     {"", c.compact},
		"import":      {"FILE", c.importFile},
		"healthcheck": {"", c.healthcheck},
		"prepare":     {"", c.prepare},
	}
	known, ok := commands[name]
	if !ok {
		return mistake("there is no command %q", name)
	}
	most := len(strings.Fields(known.args))
	if len(args) > most || len(args) < most-strings.Count(known.args, "[") {
		return mistake("the command is: backend %s", strings.TrimSpace(name+" "+known.args))
	}
	if c.config.onPostgres() && slices.Contains(ofSQLite, name) {
		return mistake("the command %s is for a database of SQLite, and KV_DATABASE_URL names %s", name, c.config.databaseName())
	}
	c.out = &lockedWriter{Writer: c.out}
	err := known.do(ctx, args)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: interrupted; nothing was changed", name)
	}
	return err
}

// ofSQLite are the commands that are for a database of SQLite alone.
var ofSQLite = []string{"compact", "import", "prepare"}

func mistake(format string, args ...any) error {
	return &settings.Error{Mistakes: []error{fmt.Errorf(format, args...)}}
}

// check reads and checks the whole database, or a backup.
func (c command) check(ctx context.Context, args []string) error {
	var found database.Summary
	what := c.config.databaseName()
	err := c.withProgress("checking", func() (err error) {
		switch {
		case len(args) > 0:
			what = args[0]
			found, err = sqlite.Verify(ctx, what)
		case c.config.onPostgres():
			found, err = database.Verify(ctx, postgres.Snapshot(c.config.databaseURL))
		default:
			found, err = sqlite.Check(ctx, what)
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.printf("the database is sound: %s\n%s", what, contents(found))
}

func (c command) healthcheck(ctx context.Context, _ []string) error {
	return telemetry.Healthcheck(ctx, c.config.addr, "/readyz")
}

// prepare changes the owner of the database files and their directory, so that a container
// that runs as that user can write to a mounted directory.
func (c command) prepare(_ context.Context, _ []string) error {
	uid, gid, err := parseOwner(c.owner)
	if err != nil {
		return err
	}
	path, err := sqlite.ParseURL(c.config.databaseURL)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	files, err := filepath.Glob(path + "*")
	if err != nil {
		return err
	}
	var failures []error
	for _, name := range append(files, dir) {
		failures = append(failures, os.Lchown(name, uid, gid))
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	return c.printf("%s belongs to %d:%d", dir, uid, gid)
}

func parseOwner(text string) (uid, gid int, err error) {
	user, group, _ := strings.Cut(text, ":")
	uid, userErr := strconv.Atoi(user)
	gid, groupErr := strconv.Atoi(group)
	if userErr != nil || groupErr != nil || uid < 0 || gid < 0 {
		return 0, 0, mistake("--owner=%q: must be UID:GID, two numbers", text)
	}
	return uid, gid, nil
}

// progressEvery is the time between two progress reports of a long command.
const progressEvery = 5 * time.Second

// withProgress runs do, and reports regularly that it is still running.
func (c command) withProgress(doing string, do func() error) error {
	return c.withReports(func() string { return doing }, do)
}

// withReports is withProgress for work that says at each report what it is doing.
func (c command) withReports(doing func() string, do func() error) error {
	start, tick := time.Now(), time.NewTicker(progressEvery)
	defer tick.Stop()
	done := make(chan error, 1)
	go func() { done <- do() }()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			_ = c.printf("%s, %s so far", doing(), time.Since(start).Round(time.Second)) // the work goes on anyway
		}
	}
}

// lockedWriter is a writer for concurrent use.
type lockedWriter struct {
	mu sync.Mutex
	io.Writer
}

func (w *lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Writer.Write(b)
}

func (c command) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(c.out, format+"\n", args...)
	return err
}

// importFile imports the predecessor's database. No service may have ours open.
func (c command) importFile(ctx context.Context, args []string) (err error) {
	db, err := sqlite.Open(ctx, sqlite.Config{URL: c.config.databaseURL, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var unwritten error
	sum, err := importer.Run(ctx, importer.Config{
		Source: args[0], Database: db, MaxValueBytes: c.config.maxValueBytes, DryRun: c.dryRun, Now: time.Now(),
		Logf: func(format string, args ...any) { unwritten = errors.Join(unwritten, c.printf(format, args...)) },
	})
	if err != nil {
		return err
	}
	imported := "imported"
	if c.dryRun {
		imported = "would be imported (dry run)"
	}
	return errors.Join(unwritten, c.printf("%d versions of %d keys %s; %d keys were imported before; "+
		"skipped: %d keys, %d versions of other keys; %d times changed",
		sum.Versions, sum.Keys, imported, sum.AlreadyKeys, sum.SkippedKeys, sum.SkippedVersions, sum.Clamped))
}
