package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"kvstore/backend/database"
	"kvstore/internal/settings"
	"kvstore/internal/telemetry"
)

// command is what the program does besides serving.
type command struct {
	config config
	owner  string // for prepare and backup
	dryRun bool   // for import
	force  bool   // for backup
	out    io.Writer
}

func (c command) run(ctx context.Context, name string, args []string) error {
	commands := map[string]struct {
		args string // one in brackets may be left out
		do   func(ctx context.Context, args []string) error
	}{
		"backup":      {"FILE", c.backup},
		"restore":     {"FILE", c.restore},
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
	c.out = &oneAtATime{Writer: c.out}
	err := known.do(ctx, args)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: interrupted; nothing was changed", name)
	}
	return err
}

func mistake(format string, args ...any) error {
	return &settings.Error{Mistakes: []error{fmt.Errorf(format, args...)}}
}

// check reads the whole database, or the backup that is named.
func (c command) check(ctx context.Context, args []string) error {
	var found database.Summary
	what := c.config.databaseURL
	err := c.during("checking", func() (err error) {
		if len(args) > 0 {
			what = args[0]
			found, err = database.Verify(ctx, what)
		} else {
			found, err = database.Check(ctx, what)
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.say("the database is sound: %s\n%s", what, contents(found))
}

func (c command) healthcheck(ctx context.Context, _ []string) error {
	return telemetry.Healthcheck(ctx, c.config.addr, "/readyz")
}

// prepare gives the directory of the database and the files in it to the owner, so
// that a container which runs as that user can write to a mounted directory.
func (c command) prepare(_ context.Context, _ []string) error {
	uid, gid, err := parseOwner(c.owner)
	if err != nil {
		return err
	}
	path, err := database.ParseURL(c.config.databaseURL)
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
	return c.say("%s belongs to %d:%d", dir, uid, gid)
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

// progressEvery is how often a command that takes long says that it is at work.
const progressEvery = 5 * time.Second

// during runs do, and says every five seconds that it is at it.
func (c command) during(doing string, do func() error) error {
	start, tick := time.Now(), time.NewTicker(progressEvery)
	defer tick.Stop()
	done := make(chan error, 1)
	go func() { done <- do() }()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			_ = c.say("%s, %s so far", doing, time.Since(start).Round(time.Second)) // the work goes on if nobody listens
		}
	}
}

// oneAtATime is a writer for many goroutines.
type oneAtATime struct {
	mu sync.Mutex
	io.Writer
}

func (w *oneAtATime) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Writer.Write(b)
}

func (c command) say(format string, args ...any) error {
	_, err := fmt.Fprintf(c.out, format+"\n", args...)
	return err
}
