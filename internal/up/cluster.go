package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"kvstore/internal/postgresql"
	"kvstore/internal/settings"
	"kvstore/internal/up/supervise"
)

const (
	primaryPort, standbyPort = 5442, 5443 // not PostgreSQL's own, which may be in use
	standbyName              = "standby"
	// databaseRole owns the database of the same name.
	databaseRole = "kv"
	restartDelay = time.Second
	// syncPeriod is how often the primary is asked whether its standby follows.
	syncPeriod = 50 * time.Millisecond
)

// A cluster is a PostgreSQL server with a synchronous standby.
type cluster struct {
	dir              string // of all files
	shown            string // dir, as the user gave it
	primary, standby postgresql.Config
	out              io.Writer
}

func newCluster(root, dir string, getenv func(string) string, out io.Writer) (*cluster, error) {
	if getenv("KV_DATABASE_URL") != "" {
		return nil, errors.New("KV_DATABASE_URL is set, but --cluster runs a database of its own; unset it")
	}
	found, err := postgresql.Find(getenv("KV_POSTGRES_BIN"))
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir, shown: dir, out: out}
	if !filepath.IsAbs(dir) {
		c.dir = filepath.Join(root, dir)
	}
	c.primary = postgresql.Config{Programs: found, Dir: filepath.Join(c.dir, "primary"), Port: primaryPort}
	c.standby = postgresql.Config{Programs: found, Dir: filepath.Join(c.dir, standbyName), Port: standbyPort}
	return c, nil
}

func (c *cluster) addresses() []settings.Address {
	return []settings.Address{
		{Setting: "primary", Text: c.primary.Address()}, {Setting: standbyName, Text: c.standby.Address()},
	}
}

// prepare makes what is missing in the directory: the password, and the files of the primary.
func (c *cluster) prepare(ctx context.Context) error {
	if err := os.MkdirAll(c.dir, 0o711); err != nil { //nolint:gosec // the user of the servers must get through
		return err
	}
	password, err := c.password()
	if err != nil {
		return err
	}
	c.primary.Password, c.standby.Password = password, password
	if missing(c.primary.Dir) {
		fmt.Fprintf(c.out, "initdb makes a new database cluster in %s\n", filepath.Join(c.shown, "primary"))
	}
	err = c.primary.Initialize(ctx)
	if user := postgresql.User(); err != nil && user != nil {
		return fmt.Errorf("as user %d, since PostgreSQL does not run as root: %w", user.Uid, err)
	}
	return err
}

// password returns that of all roles. The first time it is made, and kept in a file.
func (c *cluster) password() (string, error) {
	name := filepath.Join(c.dir, "password")
	content, err := os.ReadFile(name)
	password := strings.TrimSpace(string(content))
	switch {
	case err == nil && password == "":
		return "", fmt.Errorf("%s is empty", name)
	case !errors.Is(err, os.ErrNotExist):
		return password, err
	case !missing(c.primary.Dir):
		return "", fmt.Errorf("the password of the database cluster in %s is missing: %w", c.shown, err)
	}
	password = rand.Text()
	unfinished := name + ".unfinished"
	if err := os.WriteFile(unfinished, []byte(password+"\n"), 0o600); err != nil {
		return "", err
	}
	return password, os.Rename(unfinished, name)
}

func missing(dir string) bool {
	_, err := os.Stat(dir)
	return errors.Is(err, os.ErrNotExist)
}

// join puts the servers before the programs of the group, and lets its backends use them. Whatever
// ends by itself is started again.
func (c *cluster) join(group *supervise.Group, a addresses) {
	for i := range group.Programs {
		if program := &group.Programs[i]; strings.HasPrefix(program.Name, "backend") {
			program.Env = append(program.Env, "KV_DATABASE_URL="+c.primary.URLOf(databaseRole, databaseRole))
		}
	}
	group.Programs = append([]supervise.Program{
		c.program("primary", c.primary, c.primaryReady), c.program(standbyName, c.standby, c.standbyReady),
	}, group.Programs...)
	group.RestartDelay = restartDelay
	announce := group.Ready
	group.Ready = func(ctx context.Context) (string, error) {
		text, err := announce(ctx)
		if err != nil {
			return "", err
		}
		return text + c.describe(a), nil
	}
}

// describe says what runs where, a line each.
func (c *cluster) describe(a addresses) string {
	var text strings.Builder
	say := func(name, address, more string) { fmt.Fprintf(&text, "\n  %-9s  %-14s  %s", name, address, more) }
	say("traefik", webAddress, "shares the requests among the gateways")
	for _, p := range slices.Concat(a.gateways, a.backends) {
		fmt.Fprintf(&text, "\n  %-9s  %s", p.name, p.address)
	}
	say("primary", c.primary.Address(), fmt.Sprintf("PostgreSQL in %s, the password in %s",
		filepath.Join(c.shown, "primary"), filepath.Join(c.shown, "password")))
	say(standbyName, c.standby.Address(), "PostgreSQL in "+filepath.Join(c.shown, standbyName)+
		", has each commit before its answer")
	return text.String()
}

func (c *cluster) program(name string, server postgresql.Config, ready func(context.Context) error) supervise.Program {
	path, args := server.Command()
	return supervise.Program{
		Name: name, Path: path, Args: args, Dir: "/", User: postgresql.User(), Ready: ready,
		StopSignal: syscall.SIGINT, StopTimeout: drainTimeout,
	}
}

// primaryReady returns when the primary has the database, and the standby a copy of its files.
func (c *cluster) primaryReady(ctx context.Context) error {
	if err := c.primary.Wait(ctx); err != nil {
		return err
	}
	if err := c.makeDatabase(ctx); err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	if missing(c.standby.Dir) {
		fmt.Fprintf(c.out, "pg_basebackup copies the primary to %s\n", filepath.Join(c.shown, standbyName))
	}
	return c.standby.CopyOf(ctx, c.primary, standbyName)
}

// makeDatabase makes the role of the backends and its database, unless they exist.
func (c *cluster) makeDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.primary.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // the statements have told
	for _, step := range []struct{ exists, statement string }{
		{"SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", // and keep the password out of the server's log
			"SET log_min_error_statement = panic; CREATE ROLE " + databaseRole + " LOGIN PASSWORD '" + c.primary.Password +
				"' IN ROLE pg_read_all_stats"}, // for /health to tell of the standby
		{"SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)",
			"CREATE DATABASE " + databaseRole + " OWNER " + databaseRole},
	} {
		var exists bool
		if err := conn.QueryRow(ctx, step.exists, databaseRole).Scan(&exists); err != nil {
			return err
		}
		if exists {
			continue
		}
		if _, err := conn.PgConn().Exec(ctx, step.statement).ReadAll(); err != nil {
			return err
		}
	}
	return nil
}

// standbyReady returns when the primary waits for the standby at each commit.
func (c *cluster) standbyReady(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.primary.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // the statements have told
	// Only now, since without a standby the statements that made the database would have waited.
	for _, statement := range []string{
		"ALTER SYSTEM SET synchronous_standby_names = '" + standbyName + "'", "SELECT pg_reload_conf()",
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	const isSync = `SELECT EXISTS (SELECT FROM pg_stat_replication
		WHERE application_name = '` + standbyName + `' AND sync_state = 'sync')`
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	for {
		var follows bool
		if err := conn.QueryRow(ctx, isSync).Scan(&follows); err != nil || follows {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the standby does not follow the primary: %w", ctx.Err())
		case <-time.After(syncPeriod):
		}
	}
}
