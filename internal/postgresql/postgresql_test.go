package postgresql_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kvstore/backend/database/postgres/postgrestest"
	"kvstore/internal/postgresql"
)

func TestSynchronousStandby(t *testing.T) {
	ctx := t.Context()
	primary := postgrestest.Server(t, map[string]string{"synchronous_standby_names": "one", "synchronous_commit": "local"})
	port, err := postgrestest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	standby, err := primary.Standby(ctx, "one", postgresql.Config{Dir: filepath.Join(postgrestest.Directory(t), "standby"), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(standby.Kill)
	query(t, primary, "CREATE TABLE written (id bigint)")
	query(t, primary, "SET synchronous_commit = on; INSERT INTO written VALUES (1)")

	var count int
	poll(t, func() bool {
		count = 0
		conn := connect(t, standby)
		defer conn.Close(ctx)
		return conn.QueryRow(ctx, "SELECT count(*) FROM written").Scan(&count) == nil && count == 1
	})
}

func TestKilledServerStartsAgain(t *testing.T) {
	server := postgrestest.Server(t, nil)
	query(t, server, "CREATE TABLE written (id bigint)")
	server.Kill()
	again, err := server.Restart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(again.Kill)
	query(t, again, "INSERT INTO written VALUES (1)")
	again.Stop()
}

func TestFindNamesWhatIsMissing(t *testing.T) {
	if _, err := postgresql.Find(t.TempDir()); err == nil {
		t.Error("an empty directory has no PostgreSQL")
	}
}

func TestFailedStartSaysWhy(t *testing.T) {
	programs, err := postgresql.Find("")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "not a cluster"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := postgresql.Start(ctx, postgresql.Config{Programs: programs, Dir: dir, Port: 1}); err == nil {
		t.Error("a directory with other files in it is no database cluster")
	}
}

func connect(t *testing.T, s *postgresql.Server) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func query(t *testing.T, s *postgresql.Server, statements string) {
	t.Helper()
	conn := connect(t, s)
	defer conn.Close(t.Context())
	if _, err := conn.PgConn().Exec(t.Context(), statements).ReadAll(); err != nil {
		t.Fatal(err)
	}
}

func poll(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within 30 s")
		}
	}
}
