// Package databasetest opens real databases for tests. When KV_TEST_ENGINE is "postgres" they are on a
// PostgreSQL server that it starts, else they are files of SQLite.
package databasetest

import (
	"context"
	"database/sql"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver of Raw
	_ "github.com/mattn/go-sqlite3"

	"kvstore/backend/database"
	"kvstore/backend/database/postgres"
	"kvstore/backend/database/postgres/postgrestest"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/kv"
)

// Postgres reports whether databases are on PostgreSQL.
func Postgres() bool { return os.Getenv("KV_TEST_ENGINE") == "postgres" }

// Tests are those of a package. Run ends what they have started.
type Tests struct{ *testing.M }

// Run is for the TestMain of each package that calls URL.
func (tests Tests) Run() int { return postgrestest.Run(tests.M) }

// URL returns the URL of a database that does not exist yet, and ends with the test.
func URL(t testing.TB) string {
	t.Helper()
	if Postgres() {
		return postgrestest.Database(t)
	}
	return FileURL(t)
}

// FileURL returns the URL of a database file that does not exist yet, in a directory that
// ends with the test. It is for tests of what SQLite does.
func FileURL(t testing.TB) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "kv_store.db")
}

// ReadFile returns the bytes of the database file.
func ReadFile(t testing.TB, url string) []byte {
	t.Helper()
	data, err := os.ReadFile(strings.TrimPrefix(url, "sqlite:"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// WriteFile makes the bytes the database file.
func WriteFile(t testing.TB, url string, data []byte) {
	t.Helper()
	if err := os.WriteFile(strings.TrimPrefix(url, "sqlite:"), data, 0o640); err != nil {
		t.Fatal(err)
	}
}

// Open opens the database and closes it when the test ends.
func Open(t testing.TB, url string) *database.DB {
	t.Helper()
	return open(t, url, nil)
}

func open(t testing.TB, url string, faults *Faults) *database.DB {
	t.Helper()
	var db *database.DB
	var err error
	if strings.HasPrefix(url, "postgres:") {
		db, err = postgres.Open(t.Context(), postgres.Config{URL: url, Backend: t.Name(), Export: sqlite.Export})
	} else {
		cfg := sqlite.Config{URL: url, Logger: slog.New(slog.DiscardHandler)}
		if faults != nil {
			cfg.ConnectHook = faults.connected
		}
		db, err = sqlite.Open(t.Context(), cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close the database: %v", err)
		}
	})
	return db
}

// Raw opens the database another time, behind the back of whoever has it open, until the test ends.
func Raw(t testing.TB, url string) *sql.DB {
	t.Helper()
	driver, source := "pgx", url
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		driver, source = "sqlite3", path+"?_txlock=immediate"
	}
	raw, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := raw.Close(); err != nil {
			t.Error(err)
		}
	})
	return raw
}

// LockWrites keeps everybody from writing until release is called.
func LockWrites(t testing.TB, url string) (release func()) {
	t.Helper()
	tx, err := Raw(t, url).BeginTx(context.Background(), nil)
	if err == nil && strings.HasPrefix(url, "postgres:") {
		_, err = tx.ExecContext(t.Context(), "SELECT id FROM identity FOR UPDATE")
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
	}
}

// Put appends a version of a key.
func Put(t testing.TB, db *database.DB, key, value string) {
	t.Helper()
	Write(t, db, kv.Entry{Key: key, Value: []byte(value), Time: 7})
}

// Write appends versions, in pieces of a few thousand, and numbers them; each keeps its
// time, or gets that of its revision.
func Write(t testing.TB, db *database.DB, entries ...kv.Entry) {
	t.Helper()
	const piece = 4096
	for len(entries) > 0 {
		n := min(piece, len(entries))
		if err := db.Update(t.Context(), func(tx *database.Tx) error { return number(tx, entries[:n]) }); err != nil {
			t.Fatal(err)
		}
		entries = entries[n:]
	}
}

func number(tx *database.Tx, entries []kv.Entry) error {
	keys := make([]string, 0, len(entries))
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	if err := tx.Load(keys...); err != nil {
		return err
	}
	for i := range entries {
		e := &entries[i]
		if e.Time == 0 {
			e.Time = kv.Timestamp(tx.Totals.Revision + 1)
		}
		if e.Operation == "" {
			e.Operation = kv.OpPut
		}
		*e = tx.Append(*e).Entry
	}
	return nil
}
