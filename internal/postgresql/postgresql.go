// Package postgresql runs PostgreSQL servers as child processes, for the launcher and
// for tests.
//
// PostgreSQL refuses to run as root. When this process is root, servers run as the user
// postgres, or as nobody where there is no such user, and own their data directories.
package postgresql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Superuser is the role that every server has.
const Superuser = "postgres"

// startTimeout bounds how long a server may take until it answers.
const startTimeout = time.Minute

// ErrNotInstalled is the error of Find when the machine has no PostgreSQL server.
var ErrNotInstalled = errors.New("no PostgreSQL server is installed; on Debian: apt-get install postgresql")

// Programs is the directory of PostgreSQL's server programs.
type Programs string

// Find returns the newest server programs of this machine: those in dir when it is not
// empty, else those that Debian's packages install, else those in PATH.
func Find(dir string) (Programs, error) {
	candidates, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // the pattern is well formed
	slices.SortFunc(candidates, func(a, b string) int { return majorOf(b) - majorOf(a) })
	if dir != "" {
		candidates = []string{filepath.Join(dir, "postgres")}
	} else if inPath, err := exec.LookPath("postgres"); err == nil {
		candidates = append(candidates, inPath)
	}
	for _, program := range candidates {
		if info, err := os.Stat(program); err == nil && info.Mode()&0o111 != 0 {
			return Programs(filepath.Dir(program)), nil
		}
	}
	if dir != "" {
		return "", fmt.Errorf("%s has no program postgres", dir)
	}
	return "", ErrNotInstalled
}

// majorOf returns 15 for /usr/lib/postgresql/15/bin/postgres.
func majorOf(program string) int {
	major, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(program)))) // 0 for a name that is no number
	return major
}

// A Config says which server to start.
type Config struct {
	Programs Programs
	// Dir is the data directory. Start makes a new database cluster there when it is
	// missing or empty.
	Dir string
	// Port is where the server listens, on 127.0.0.1.
	Port int
	// Password is that of Superuser in a new database cluster.
	Password string
	// Settings are added to those in the data directory: name to value.
	Settings map[string]string
	// Log gets what the server prints, if it is not nil.
	Log io.Writer
}

// A Server is a running PostgreSQL server.
type Server struct {
	Config
	cmd   *exec.Cmd
	said  *tail
	ended chan struct{}
}

// A tail is the end of what a server printed.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailBytes = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-tailBytes):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// Start starts a server and returns when it answers queries. ctx bounds the start alone.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if err := cfg.Initialize(ctx); err != nil {
		return nil, err
	}
	return cfg.start(ctx)
}

// Initialize makes a new database cluster in Dir when that is missing or empty. What is there
// afterwards is complete, also when this process dies meanwhile.
func (cfg Config) Initialize(ctx context.Context) error {
	return cfg.fill(func(dir string) error {
		password, err := os.CreateTemp("", "kv-postgres-")
		if err != nil {
			return err
		}
		defer os.Remove(password.Name()) //nolint:errcheck // a leftover is harmless: the file is private to its user
		_, err = password.WriteString(cfg.Password)
		if err := errors.Join(err, password.Close(), giveAway(password.Name())); err != nil {
			return err
		}
		return cfg.run(ctx, "initdb", "--pgdata="+dir, "--username="+Superuser, "--auth=scram-sha-256",
			"--pwfile="+password.Name(), "--locale=C.UTF-8", "--encoding=UTF8", "--data-checksums")
	})
}

// fill lets write fill a directory that then becomes Dir, when that is missing or empty.
func (cfg Config) fill(write func(dir string) error) error {
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) || len(entries) > 0 {
		return err
	}
	unfinished := cfg.Dir + ".unfinished"
	if err := errors.Join(os.RemoveAll(unfinished), os.MkdirAll(unfinished, 0o700), giveAway(unfinished)); err != nil {
		return err
	}
	if err := write(unfinished); err != nil {
		return errors.Join(err, os.RemoveAll(unfinished))
	}
	return os.Rename(unfinished, cfg.Dir)
}

// run runs one of the programs to its end.
func (cfg Config) run(ctx context.Context, program string, args ...string) error {
	cmd := cfg.command(ctx, program, args...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, output.Bytes())
	}
	return nil
}

func (cfg Config) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(string(cfg.Programs), program), args...) //nolint:gosec // programs of the machine's own PostgreSQL
	cmd.Dir = "/"                                                                          // the other user may have no right to this one
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.SysProcAttr = ProcessAttributes()
	return cmd
}

// Command returns the program of the server and its arguments. It must run as the user that User
// returns. SIGINT ends it: it breaks off sessions and writes a checkpoint.
func (cfg Config) Command() (path string, args []string) {
	args = make([]string, 0, 8+2*len(cfg.Settings))
	args = append(args, "-D", cfg.Dir, "-p", strconv.Itoa(cfg.Port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=")
	for name, value := range cfg.Settings {
		args = append(args, "-c", name+"="+value)
	}
	return filepath.Join(string(cfg.Programs), "postgres"), args
}

func (cfg Config) start(ctx context.Context) (*Server, error) {
	_, args := cfg.Command()
	cmd := cfg.command(context.WithoutCancel(ctx), "postgres", args...)
	said := &tail{}
	output := io.Writer(said)
	if cfg.Log != nil {
		output = io.MultiWriter(said, cfg.Log)
	}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	s := &Server{Config: cfg, cmd: cmd, said: said, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(s.ended)
	}()
	if err := s.wait(ctx); err != nil {
		s.Kill()
		return nil, err
	}
	return s, nil
}

// wait returns when the server answers a query.
func (s *Server) wait(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := s.Wait(ctx)
	select {
	case <-s.ended:
		return fmt.Errorf("PostgreSQL ended at its start:\n%s", s.said)
	default:
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, s.said)
	}
	return nil
}

// Wait returns when the server answers a query, or why it does not.
func (cfg Config) Wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, cfg.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL does not answer: %w: %w", ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// URL returns how to connect to a database of the server as Superuser.
func (cfg Config) URL(database string) string { return cfg.URLOf(Superuser, database) }

// URLOf returns how to connect to a database of the server as a role that has its password.
func (cfg Config) URLOf(role, database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, cfg.Password), Host: cfg.Address(),
		Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Address is where the server listens: host and port.
func (cfg Config) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(cfg.Port)) }

// Standby starts a streaming standby of s under name, which is what
// synchronous_standby_names of s may refer to. Of cfg, Programs and Password are those
// of s. The copy is made when cfg.Dir is missing or empty.
func (s *Server) Standby(ctx context.Context, name string, cfg Config) (*Server, error) {
	cfg.Programs, cfg.Password = s.Programs, s.Password
	settings := map[string]string{} // a standby must allow as much as its primary, such as connections
	maps.Copy(settings, s.Settings)
	maps.Copy(settings, cfg.Settings)
	cfg.Settings = settings
	if err := cfg.CopyOf(ctx, s.Config, name); err != nil {
		return nil, err
	}
	return cfg.start(ctx)
}

// CopyOf makes Dir, when that is missing or empty, a copy of a server that runs. Started, it is a
// streaming standby under name, for which the primary keeps its log in a replication slot.
func (cfg Config) CopyOf(ctx context.Context, primary Config, name string) error {
	slot := strings.ReplaceAll(name, "-", "_")
	return cfg.fill(func(dir string) error {
		if err := primary.makeSlot(ctx, slot); err != nil {
			return err
		}
		source := primary.URL("") + "&application_name=" + url.QueryEscape(name)
		return cfg.run(ctx, "pg_basebackup", "--pgdata="+dir, "--dbname="+source, "--checkpoint=fast",
			"--wal-method=stream", "--write-recovery-conf", "--slot="+slot)
	})
}

// makeSlot makes a replication slot, unless there is one of an earlier copy.
func (cfg Config) makeSlot(ctx context.Context, slot string) error {
	conn, err := pgx.Connect(ctx, cfg.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // the statement has told
	_, err = conn.Exec(ctx, `SELECT pg_create_physical_replication_slot($1)
		WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)`, slot)
	return err
}

// Stop ends the server: it breaks off sessions, writes a checkpoint and waits for its end.
func (s *Server) Stop() { s.end(syscall.SIGINT) }

// Kill ends the server as a power failure would, except that what the operating system
// has of its files stays.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

func (s *Server) end(signal syscall.Signal) {
	_ = s.cmd.Process.Signal(signal) // it may have ended
	<-s.ended
}

// Restart starts the server again after Stop or Kill.
func (s *Server) Restart(ctx context.Context) (*Server, error) { return s.start(ctx) }

// giveAway gives a file to the user of the servers.
func giveAway(name string) error {
	id := User()
	if id == nil {
		return nil
	}
	return os.Chown(name, int(id.Uid), int(id.Gid))
}

// User returns the user of the servers; nil means that of this process.
func User() *syscall.Credential {
	if os.Geteuid() != 0 || alone() {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
		if uidErr == nil && gidErr == nil && uid != 0 {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	return nil // initdb says that it cannot run as root
}
