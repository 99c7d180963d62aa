// Package postgrestest gives tests databases on a real PostgreSQL server, which it starts
// once for each test binary.
package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"kvstore/internal/postgresql"
)

// Password is that of all servers of tests.
const Password = "for tests only: %/@"

// shared is the server of this test binary.
var shared struct {
	once   sync.Once
	dir    string
	server *postgresql.Server
	err    error
	number atomic.Int64 // of databases that were made
}

// Run runs the tests, stops the server that they may have started, and returns the exit code. Call it
// from TestMain.
func Run(m *testing.M) int {
	code := m.Run()
	if shared.server != nil {
		shared.server.Kill()
	}
	if err := os.RemoveAll(shared.dir); err != nil {
		fmt.Fprintln(os.Stderr, "remove the test server's directory:", err)
		code = max(code, 1)
	}
	return code
}

// Database returns the URL of an empty database of its own. The server does not sync its
// files: it survives the death of its processes, but not a power failure.
func Database(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() { shared.err = startShared(context.WithoutCancel(t.Context())) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	name := "test_" + strconv.FormatInt(shared.number.Add(1), 10)
	Exec(t, shared.server.URL("postgres"), "CREATE DATABASE "+name)
	t.Cleanup(func() { Exec(t, shared.server.URL("postgres"), "DROP DATABASE "+name+" WITH (FORCE)") })
	return shared.server.URL(name)
}

func startShared(ctx context.Context) (err error) {
	if shared.dir, err = directory(); err != nil {
		return err
	}
	cfg, err := config(shared.dir)
	if err != nil {
		return err
	}
	cfg.Settings["fsync"] = "off"
	shared.server, err = postgresql.Start(ctx, cfg)
	return err
}

// Server starts a server of the test's own, which syncs its files. Its log goes to the
// test's output when the test fails.
func Server(t testing.TB, settings map[string]string) *postgresql.Server {
	t.Helper()
	cfg, err := config(Directory(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range settings {
		cfg.Settings[name] = value
	}
	server, err := postgresql.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	return server
}

// Directory returns a new directory for data of servers. It goes at the end of the test.
func Directory(t testing.TB) string {
	t.Helper()
	dir, err := directory()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // what is left in the temporary directory is harmless
	return dir
}

// directory returns a new directory that the user of the server can enter, which those of
// package testing are not.
func directory() (string, error) {
	dir, err := os.MkdirTemp("", "kv-postgres-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711) // another user must get through; there is nothing to read
}

func config(dir string) (postgresql.Config, error) {
	programs, err := postgresql.Find(os.Getenv("KV_TEST_POSTGRES"))
	if err != nil {
		return postgresql.Config{}, err
	}
	port, err := FreePort()
	return postgresql.Config{
		Programs: programs, Dir: filepath.Join(dir, "data"), Port: port, Password: Password,
		Settings: map[string]string{"max_connections": "200"},
	}, err
}

// FreePort returns a port of 127.0.0.1 that nothing listens on. It lies below those that
// outgoing connections get, so that it stays free until a server is started again.
func FreePort() (int, error) {
	var err error
	for range 100 {
		port := 20000 + rand.IntN(12000) //nolint:gosec // not a secret
		var listener net.Listener
		if listener, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil { //nolint:noctx // it takes no time
			return port, listener.Close()
		}
	}
	return 0, errors.Join(errors.New("no free port below 32768"), err)
}

// Standby starts a streaming standby of a server, which is not synchronous.
func Standby(t testing.TB, primary *postgresql.Server) *postgresql.Server {
	t.Helper()
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	cfg := postgresql.Config{Dir: filepath.Join(Directory(t), "standby"), Port: port}
	standby, err := primary.Standby(t.Context(), "standby", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(standby.Kill)
	return standby
}

// AwaitReplay returns when a standby has all that the server has committed.
func AwaitReplay(t testing.TB, primary *postgresql.Server) {
	t.Helper()
	Exec(t, primary.URL("postgres"), `DO $$ BEGIN
		FOR i IN 1..1000 LOOP
			EXIT WHEN EXISTS (SELECT FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn());
			PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
		END LOOP; END $$`)
}

// Promote makes a primary of a standby.
func Promote(t testing.TB, standby *postgresql.Server) {
	t.Helper()
	Exec(t, standby.URL("postgres"), "SELECT pg_promote()")
}

// Exec executes statements as the superuser of a server.
func Exec(t testing.TB, url, statement string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx) //nolint:errcheck // the statement has told
	if _, err := conn.Exec(ctx, statement); err != nil {
		t.Fatal(err)
	}
}
