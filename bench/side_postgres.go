package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"kvstore/bench/generator"
	"kvstore/internal/postgresql"
)

// A pgServer is a PostgreSQL server with its own settings, except that it allows more connections, and with
// fsync. Several sides have a database on it.
type pgServer struct {
	postgresql.Config
	processes []*process
	databases int
}

// startPostgres starts a server and, if wanted, a synchronous standby on the same disk.
func startPostgres(ctx context.Context, dir string, standby bool) (*pgServer, error) {
	programs, err := postgresql.Find("")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotInstalled, err)
	}
	settings := map[string]string{"max_connections": "300"}
	s := &pgServer{Config: postgresql.Config{Programs: programs, Password: "bench", Settings: settings}}
	if !standby {
		return s, s.run(ctx, dir, "postgres", &s.Config, postgresql.Config.Initialize)
	}
	const name = "standby"
	settings["synchronous_standby_names"] = name
	if err := s.run(ctx, dir, "primary", &s.Config, postgresql.Config.Initialize); err != nil {
		return nil, err
	}
	copied := s.Config
	err = s.run(ctx, dir, name, &copied, func(cfg postgresql.Config, ctx context.Context) error {
		return cfg.CopyOf(ctx, s.Config, name)
	})
	if err != nil {
		err = errors.Join(err, s.stop())
	}
	return s, err
}

// run makes the files of a server in a new directory and starts it on a free port.
func (s *pgServer) run(
	ctx context.Context, dir, name string, cfg *postgresql.Config, fill func(postgresql.Config, context.Context) error,
) error {
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	cfg.Dir = filepath.Join(dir, name)
	if cfg.Port, err = strconv.Atoi(port); err != nil {
		return err
	}
	if err := fill(*cfg, ctx); err != nil {
		return err
	}
	path, args := cfg.Command()
	started, err := startAll(ctx, answersQueries(cfg.URL("postgres")),
		program{name: name, path: path, args: args, dir: dir, user: postgresql.User()})
	s.processes = append(s.processes, started...)
	return err
}

func answersQueries(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	}
}

func (s *pgServer) stop() error { return (&store{processes: s.processes}).stop() }

// database makes an empty database and returns its URL.
func (s *pgServer) database(ctx context.Context) (string, error) {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx) //nolint:errcheck // the statement has told
	s.databases++
	name := fmt.Sprintf("bench_%d", s.databases)
	_, err = conn.Exec(ctx, "CREATE DATABASE "+name)
	return s.URL(name), err
}

// version returns the version of the server.
func (s *pgServer) version(ctx context.Context) (string, error) {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing was written
	return "PostgreSQL " + conn.PgConn().ParameterStatus("server_version"), nil
}

// postgresSide is backends that share a store on a PostgreSQL server. Writes go to the first of them, as
// from a gateway, and reads to all.
type postgresSide struct {
	*programs
	label    string
	server   *pgServer
	backends int
	delay    time.Duration // added to each round trip to the server
}

func (s *postgresSide) name() string { return s.label }

func (s *postgresSide) about() string {
	text := "our backend on PostgreSQL"
	if s.backends > 1 {
		text = fmt.Sprintf("%d of our backends on PostgreSQL; writes go to the first, reads to all", s.backends)
	}
	if len(s.server.processes) > 1 {
		text += " with a synchronous standby on the same disk"
	}
	return text
}

func (s *postgresSide) version(ctx context.Context) (string, error) {
	version, err := s.server.version(ctx)
	return s.commit + ", " + version, err
}

func (s *postgresSide) start(ctx context.Context, where place) (*store, error) {
	started, err := s.run(ctx, where)
	return started.store, err
}

// A backendGroup is the running backends of a postgresSide.
type backendGroup struct {
	*store
	addresses []string
	through   string // the URL of their database as they see it
}

func (s *postgresSide) run(ctx context.Context, where place) (g backendGroup, err error) {
	database, err := s.server.database(ctx)
	if err != nil {
		return g, err
	}
	if g.addresses, err = freeAddresses(ctx, s.backends); err != nil {
		return g, err
	}
	processes, through, err := delayed(ctx, where.dir, database, s.delay)
	if err != nil {
		return g, err
	}
	g.through = through
	wanted := make([]program, 0, s.backends)
	for i, address := range g.addresses {
		wanted = append(wanted, s.backendOn(where, fmt.Sprintf("backend-%d", i+1), address, g.through))
	}
	backends, err := startAll(ctx, func(ctx context.Context) error {
		for _, address := range g.addresses {
			if err := answersOK("http://" + address + "/health")(ctx); err != nil {
				return err
			}
		}
		return nil
	}, wanted...)
	processes = append(processes, backends...)
	if err != nil {
		return g, errors.Join(err, (&store{processes: processes}).stop())
	}
	g.store = s.store(g.addresses, processes)
	return g, nil
}

// delayed starts the program that makes the round trip to a database longer, and returns the URL by way of it.
// Without a delay that is the database itself, and no program.
func delayed(ctx context.Context, dir, database string, delay time.Duration) ([]*process, string, error) {
	if delay == 0 {
		return nil, database, nil
	}
	path, err := self()
	if err != nil {
		return nil, "", err
	}
	u, err := url.Parse(database)
	if err != nil {
		return nil, "", err
	}
	server := u.Host
	if u.Host, err = freeAddress(ctx); err != nil {
		return nil, "", err
	}
	processes, err := startAll(ctx, answersQueries(u.String()), program{
		name: "delay", path: path, dir: dir, args: []string{delayCommand, u.Host, server, delay.String()},
	})
	return processes, u.String(), err
}

// store is what runs at the addresses.
func (s *postgresSide) store(addresses []string, processes []*process) *store {
	codec := generator.KV{Host: addresses[0]}
	started := networkStore(addresses[0], codec, processes...)
	started.shared = s.server.processes
	started.connect = func(load generator.Load, connections int) (session, error) {
		if load.PutShare > 0 || !started.filled[load.Name] {
			return generator.Open(addresses[:1], codec, started.known.of(load), connections)
		}
		return generator.Open(addresses, codec, started.known.of(load), connections)
	}
	started.verify = func(ctx context.Context, load generator.Load) (found string, err error) {
		for _, address := range addresses {
			if found, err = verifyOurs(ctx, address, started.known, load); err != nil {
				return found, err
			}
		}
		if len(addresses) > 1 {
			found += fmt.Sprintf(", at each of %d backends", len(addresses))
		}
		return found, nil
	}
	return started
}
