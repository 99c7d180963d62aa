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
var ErrNotInstalled = errors.New("no PostgreSQL server is installed; Debian has it as the package postgresql")

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
	cfg   Config
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
	if entries, err := os.ReadDir(cfg.Dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	} else if len(entries) == 0 {
		if err := cfg.initialize(ctx); err != nil {
			return nil, err
		}
	}
	return cfg.start(ctx)
}

// initialize makes a new database cluster.
func (cfg Config) initialize(ctx context.Context) error {
	if err := makeOwnDir(cfg.Dir); err != nil {
		return err
	}
	password, err := os.CreateTemp("", "kv-postgres-")
	if err != nil {
		return err
	}
	defer os.Remove(password.Name()) //nolint:errcheck // a leftover is harmless: the directory is private to this user
	_, err = password.WriteString(cfg.Password)
	if err := errors.Join(err, password.Close(), giveAway(password.Name())); err != nil {
		return err
	}
	return cfg.run(ctx, "initdb", "--pgdata="+cfg.Dir, "--username="+Superuser, "--auth=scram-sha-256",
		"--pwfile="+password.Name(), "--locale=C.UTF-8", "--encoding=UTF8", "--data-checksums")
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

func (cfg Config) start(ctx context.Context) (*Server, error) {
	args := make([]string, 0, 8+2*len(cfg.Settings))
	args = append(args, "-D", cfg.Dir, "-p", strconv.Itoa(cfg.Port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=")
	for name, value := range cfg.Settings {
		args = append(args, "-c", name+"="+value)
	}
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
	s := &Server{cfg: cfg, cmd: cmd, said: said, ended: make(chan struct{})}
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
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.ended:
			return fmt.Errorf("PostgreSQL ended at its start:\n%s", s.said)
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL does not answer: %w: %w\n%s", ctx.Err(), err, s.said)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// URL returns how to connect to a database of the server as Superuser.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(Superuser, s.cfg.Password), Host: s.Address(),
		Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Address is where the server listens: host and port.
func (s *Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.cfg.Port)) }

// Standby starts a streaming standby of s under name, which is what
// synchronous_standby_names of s may refer to. Of cfg, Programs and Password are those
// of s. The copy is made when cfg.Dir is missing or empty.
func (s *Server) Standby(ctx context.Context, name string, cfg Config) (*Server, error) {
	cfg.Programs, cfg.Password = s.cfg.Programs, s.cfg.Password
	settings := map[string]string{} // a standby must allow as much as its primary, such as connections
	maps.Copy(settings, s.cfg.Settings)
	maps.Copy(settings, cfg.Settings)
	cfg.Settings = settings
	if entries, err := os.ReadDir(cfg.Dir); err != nil || len(entries) == 0 {
		if err := makeOwnDir(cfg.Dir); err != nil {
			return nil, err
		}
		source := s.URL("") + "&application_name=" + url.QueryEscape(name)
		if err := cfg.run(ctx, "pg_basebackup", "--pgdata="+cfg.Dir, "--dbname="+source, "--checkpoint=fast",
			"--wal-method=stream", "--write-recovery-conf", "--create-slot", "--slot="+strings.ReplaceAll(name, "-", "_")); err != nil {
			return nil, err
		}
	}
	return cfg.start(ctx)
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
func (s *Server) Restart(ctx context.Context) (*Server, error) { return s.cfg.start(ctx) }

// makeOwnDir makes a directory that belongs to the user of the servers.
func makeOwnDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return giveAway(dir)
}

// giveAway gives a file to the user of the servers.
func giveAway(name string) error {
	id := credential()
	if id == nil {
		return nil
	}
	return os.Chown(name, int(id.Uid), int(id.Gid))
}

// credential returns the user of the servers; nil means that of this process.
func credential() *syscall.Credential {
	if os.Geteuid() != 0 {
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
