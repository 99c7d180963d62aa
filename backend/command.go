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

	"kvstore/backend/database"
	"kvstore/internal/settings"
	"kvstore/internal/telemetry"
)

// command is what the program does besides serving.
type command struct {
	config config
	owner  string // for prepare
	dryRun bool   // for import
	force  bool   // for backup
	out    io.Writer
}

func (c command) run(ctx context.Context, name string, args []string) error {
	commands := map[string]struct {
		args string
		do   func(ctx context.Context, args []string) error
	}{
		"backup":      {"FILE", c.backup},
		"restore":     {"FILE", c.restore},
		"check":       {"", c.check},
		"compact":     {"", c.compact},
		"import":      {"FILE", c.importFile},
		"healthcheck": {"", c.healthcheck},
		"prepare":     {"", c.prepare},
	}
	known, ok := commands[name]
	if !ok {
		return mistake("there is no command %q", name)
	}
	if want := len(strings.Fields(known.args)); len(args) != want {
		return mistake("the command is: backend %s", strings.TrimSpace(name+" "+known.args))
	}
	return known.do(ctx, args)
}

func mistake(format string, args ...any) error {
	return &settings.Error{Mistakes: []error{fmt.Errorf(format, args...)}}
}

func (c command) check(ctx context.Context, _ []string) error {
	found, err := database.Check(ctx, c.config.databaseURL)
	if err != nil {
		return err
	}
	return c.say("the database is sound: %s\n%s", c.config.databaseURL, contents(found))
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

func (c command) say(format string, args ...any) error {
	_, err := fmt.Fprintf(c.out, format+"\n", args...)
	return err
}
