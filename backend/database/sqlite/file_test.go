package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/sqlite"
)

func TestMain(m *testing.M) {
	if url := os.Getenv("SQLITE_TEST_OPEN"); url != "" {
		os.Exit(openAsChild(url))
	}
	goleak.VerifyTestMain(m)
}

// openAsChild is what a second process does: it prints the error of Open.
func openAsChild(url string) int {
	db, err := sqlite.Open(context.Background(), sqlite.Config{URL: url, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		os.Stdout.WriteString(err.Error())
		return 1
	}
	db.Close()
	return 0
}

// openInChild opens the database in another process, as the user nobody when asked
// to, and returns the error's text, "" when it opened.
func openInChild(t *testing.T, url string, asNobody bool) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if asNobody && os.Getuid() == 0 { // root may write to every file
		shared := filepath.Join(sharedDir(t), "child.test")
		data, err := os.ReadFile(self)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(shared, data, 0o755); err != nil {
			t.Fatal(err)
		}
		self = shared
	}
	child := exec.CommandContext(t.Context(), self)
	child.Env = append(os.Environ(), "SQLITE_TEST_OPEN="+url)
	if asNobody && os.Getuid() == 0 {
		child.SysProcAttr = asNobodyHere()
		child.Dir = "/"
	}
	out, err := child.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out)
}

// sharedDir is a directory that every user can reach.
func sharedDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kvstore-database-test") //nolint:usetesting // the test's own directory is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPragmas(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	writer, readers := sqlite.Pragmas(t, db)
	want := map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000", "wal_autocheckpoint": "4000", "auto_vacuum": "2", "query_only": "0"}
	if diff := cmp.Diff(want, writer); diff != "" {
		t.Error("writer", diff)
	}
	for i, reader := range readers {
		if reader["query_only"] != "1" || reader["busy_timeout"] != "5000" || reader["journal_mode"] != "wal" {
			t.Errorf("reader %d: %v", i, reader)
		}
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	url := databasetest.URL(t)
	databasetest.Open(t, url)
	got := openInChild(t, url, false)
	if !strings.Contains(got, "in use by another process (pid "+strconv.Itoa(os.Getpid())+" on host ") {
		t.Errorf("the second process says %q, want the pid %d", got, os.Getpid())
	}
}

// rawDB runs statements on a file, without the rules of the package.
func rawDB(t *testing.T, url string, statements ...string) {
	t.Helper()
	raw, err := sql.Open("sqlite3", strings.TrimPrefix(url, "sqlite:"))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	for _, statement := range statements {
		if _, err := raw.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
}

// ofDevelopment makes a file one of the development before schema version 1.
var ofDevelopment = []string{
	"PRAGMA user_version = 0", "CREATE TABLE migrations (id text)", "INSERT INTO migrations VALUES ('0001_keys_and_versions'), ('0005_gaps')",
}

func TestRefusals(t *testing.T) {
	// filled makes a closed database with a few hundred pages.
	filled := func(t *testing.T, url string) {
		t.Helper()
		db := databasetest.Open(t, url)
		for i := range 50 {
			databasetest.Put(t, db, "k"+strconv.Itoa(i), strconv.Quote(strings.Repeat("x", 20_000)))
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		make func(t *testing.T, url string)
		want string
	}{
		"not SQLite": {func(t *testing.T, url string) {
			databasetest.WriteFile(t, url, []byte("this is a text file and not a database"))
		}, "is not an SQLite database"},
		"another program's": {func(t *testing.T, url string) {
			rawDB(t, url, "CREATE TABLE keys (key TEXT PRIMARY KEY, created_at REAL)")
		}, "the SQLite database of another program"},
		"newer schema": {func(t *testing.T, url string) {
			filled(t, url)
			rawDB(t, url, "PRAGMA user_version = 2")
		}, "schema is newer than this program (version 2, this program knows 1)"},
		"no schema version": {func(t *testing.T, url string) {
			filled(t, url)
			rawDB(t, url, "PRAGMA user_version = 0")
		}, "damaged: its schema has the version 0"},
		"development": {func(t *testing.T, url string) {
			filled(t, url)
			rawDB(t, url, ofDevelopment...)
		}, sqlite.ErrDevelopment.Error() + " (the last step of its schema: 0005_gaps)"},
		"truncated": {func(t *testing.T, url string) {
			filled(t, url)
			if err := os.Truncate(strings.TrimPrefix(url, "sqlite:"), 300_000); err != nil {
				t.Fatal(err)
			}
		}, "damaged"},
		"overwritten in the middle": {func(t *testing.T, url string) {
			filled(t, url)
			file, err := os.OpenFile(strings.TrimPrefix(url, "sqlite:"), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			if _, err := file.WriteAt([]byte(strings.Repeat("\xa5", 16_384)), 8_192); err != nil {
				t.Fatal(err)
			}
		}, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			url := databasetest.URL(t)
			test.make(t, url)
			before := databasetest.ReadFile(t, url)
			db, err := sqlite.Open(t.Context(), sqlite.Config{URL: url, Logger: slog.New(slog.DiscardHandler)})
			if err == nil {
				db.Close()
				t.Fatal("Open succeeded")
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), strings.TrimPrefix(url, "sqlite:")) {
				t.Errorf("Open = %v, want it to name the file and to say %q", err, test.want)
			}
			if string(before) != string(databasetest.ReadFile(t, url)) {
				t.Error("the refused file was changed")
			}
		})
	}
	t.Run("read-only", func(t *testing.T) {
		dir := sharedDir(t)
		url := "sqlite:" + filepath.Join(dir, "kv_store.db")
		filled(t, url)
		if err := os.Chmod(strings.TrimPrefix(url, "sqlite:"), 0o444); err != nil {
			t.Fatal(err)
		}
		if got := openInChild(t, url, true); !strings.Contains(got, "cannot be written") {
			t.Errorf("Open says %q, want that the file cannot be written", got)
		}
	})
}

func TestParseURL(t *testing.T) {
	for url, want := range map[string]string{
		"sqlite:data/kv_store.db": "data/kv_store.db",
		"sqlite:/abs/kv.db":       "/abs/kv.db",
		"sqlite:///abs/kv.db":     "/abs/kv.db",
		"sqlite:with space%.db":   "with space%.db",
	} {
		if got, err := sqlite.ParseURL(url); err != nil || got != want {
			t.Errorf("ParseURL(%q) = %q, %v, want %q", url, got, err, want)
		}
	}
	for _, url := range []string{"", "data/kv.db", "postgres://h/db", "sqlite:", "sqlite::memory:", "sqlite:x?mode=ro", "sqlite:a#b"} {
		if got, err := sqlite.ParseURL(url); err == nil {
			t.Errorf("ParseURL(%q) = %q, want an error", url, got)
		}
	}
}

func TestOddFileNames(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "a dir", "100% ü.db")
	db := databasetest.Open(t, url)
	databasetest.Put(t, db, "k", "1")
	if _, err := os.Stat(strings.TrimPrefix(url, "sqlite:")); err != nil {
		t.Error(err)
	}
}
