package database_test

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

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
)

func TestMain(m *testing.M) {
	if url := os.Getenv("DATABASE_TEST_OPEN"); url != "" {
		os.Exit(openAsChild(url))
	}
	goleak.VerifyTestMain(m)
}

// openAsChild is what a second process does: it prints the error of Open.
func openAsChild(url string) int {
	db, err := database.Open(context.Background(), database.Config{URL: url, Logger: slog.New(slog.DiscardHandler)})
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
	child.Env = append(os.Environ(), "DATABASE_TEST_OPEN="+url)
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

func put(t *testing.T, db *database.DB, key, value string) {
	t.Helper()
	err := db.Update(t.Context(), func(tx *database.Tx) error {
		err := tx.Load(key)
		if err == nil {
			tx.Append(kv.Entry{Key: key, Value: []byte(value), Time: 7})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRoundTrip(t *testing.T) {
	url := databasetest.URL(t)
	db := databasetest.Open(t, url)
	put(t, db, "k", "1")
	put(t, db, "other", `"x"`)
	put(t, db, "k", "2")

	latest, err := db.Latest(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(kv.Entry{Key: "k", Value: []byte("2"), Version: 2, Revision: 3, Time: 7}, latest); diff != "" {
		t.Error(diff)
	}
	first, err := db.Version(t.Context(), "k", 1)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(kv.Entry{Key: "k", Value: []byte("1"), Version: 1, Revision: 1, Time: 7}, first); diff != "" {
		t.Error(diff)
	}
	if _, err := db.Latest(t.Context(), "none"); !errors.Is(err, kv.ErrKeyNotFound) {
		t.Errorf("Latest of a missing key: %v, want ErrKeyNotFound", err)
	}
	if _, err := db.Version(t.Context(), "k", 3); !errors.Is(err, kv.ErrVersionNotFound) {
		t.Errorf("Version of a missing version: %v, want ErrVersionNotFound", err)
	}
	stats, err := db.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(kv.Totals{Revision: 3, Keys: 2, Versions: 3}, stats.Totals); diff != "" {
		t.Error(diff)
	}
	if stats.Bytes <= 0 {
		t.Errorf("Stats().Bytes = %d, want the size of the file", stats.Bytes)
	}

	id := db.StoreID()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	again := databasetest.Open(t, url)
	if again.StoreID() != id {
		t.Errorf("store id after reopening = %s, want %s", again.StoreID(), id)
	}
	if entry, err := again.Latest(t.Context(), "k"); err != nil || entry.Version != 2 {
		t.Errorf("Latest after reopening = %v, %v", entry, err)
	}
}

func TestUpdateIsAllOrNothing(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	put(t, db, "k", "1")
	boom := errors.New("boom")
	err := db.Update(t.Context(), func(tx *database.Tx) error {
		if err := tx.Load("k"); err != nil {
			return err
		}
		tx.Append(kv.Entry{Key: "k", Value: []byte("2")})
		if _, err := tx.Save(); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("Update = %v, want the error of its function", err)
	}
	if entry, err := db.Latest(t.Context(), "k"); err != nil || entry.Version != 1 {
		t.Errorf("Latest after a failed Update = %v, %v, want version 1", entry, err)
	}
	if stats, err := db.Stats(t.Context()); err != nil || stats.Revision != 1 {
		t.Errorf("Stats after a failed Update = %v, %v, want revision 1", stats, err)
	}
}

func TestVersionsAreUnique(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	put(t, db, "k", "1")
	err := db.Update(t.Context(), func(tx *database.Tx) error {
		err := tx.Load("k")
		if err == nil {
			tx.Append(kv.Entry{Key: "k", Value: []byte("2"), Version: 1})
		}
		return err
	})
	if !errors.Is(err, kv.ErrUnavailable) {
		t.Errorf("a second version 1: %v, want an error", err)
	}
}

// TestBatchSizes appends batches of every size around the fixed statement lengths.
func TestBatchSizes(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	for _, n := range []int{1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200} {
		keys := make([]string, n)
		for i := range keys {
			keys[i] = "batch/" + strconv.Itoa(n) + "/" + strconv.Itoa(i)
		}
		for version := int64(1); version <= 2; version++ {
			err := db.Update(t.Context(), func(tx *database.Tx) error {
				if err := tx.Load(keys...); err != nil {
					return err
				}
				for _, key := range keys {
					if head, err := tx.Head(key); err != nil || head.Version != version-1 {
						t.Errorf("%d keys, version %d: the head of %s is %+v, %v", n, version, key, head, err)
					}
					tx.Append(kv.Entry{Key: key, Value: []byte("1")})
				}
				return nil
			})
			if err != nil {
				t.Fatalf("%d keys: %v", n, err)
			}
		}
		for _, key := range keys {
			if entry, err := db.Latest(t.Context(), key); err != nil || entry.Version != 2 {
				t.Fatalf("Latest(%s) = %v, %v", key, entry, err)
			}
		}
	}
}

func TestPragmas(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	writer, readers := db.Pragmas(t)
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

func TestModelsMatchSchema(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	if drift := db.SchemaDrift(t); len(drift) > 0 {
		t.Errorf("the models ask for changes of a new file:\n%s", strings.Join(drift, "\n"))
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
			put(t, db, "k"+strconv.Itoa(i), strconv.Quote(strings.Repeat("x", 20_000)))
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
			writeFile(t, url, []byte("this is a text file and not a database"))
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
		}, database.ErrDevelopment.Error() + " (the last step of its schema: 0005_gaps)"},
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
			before := readFile(t, url)
			db, err := database.Open(t.Context(), database.Config{URL: url, Logger: slog.New(slog.DiscardHandler)})
			if err == nil {
				db.Close()
				t.Fatal("Open succeeded")
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), strings.TrimPrefix(url, "sqlite:")) {
				t.Errorf("Open = %v, want it to name the file and to say %q", err, test.want)
			}
			if string(before) != string(readFile(t, url)) {
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

func writeFile(t *testing.T, url string, data []byte) {
	t.Helper()
	if err := os.WriteFile(strings.TrimPrefix(url, "sqlite:"), data, 0o640); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, url string) []byte {
	t.Helper()
	data, err := os.ReadFile(strings.TrimPrefix(url, "sqlite:"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
