package sqlite_test

import (
	"bytes"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/kv"
)

// rawExec runs a statement on the file of a database, beside or without its process.
func rawExec(t *testing.T, url, statement string) {
	t.Helper()
	raw, err := sql.Open("sqlite3", strings.TrimPrefix(url, "sqlite:"))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

// TestCheckNamesDamage changes one member of one row, and holds that the check names
// what it is of, and that a start says it and goes on.
func TestCheckNamesDamage(t *testing.T) {
	for statement, want := range map[string]string{
		"UPDATE versions SET value = x'32' WHERE revision = 2":              "Key 'k' version 2",
		"UPDATE versions SET timestamp = 8 WHERE revision = 2":              "Key 'k' version 2",
		"UPDATE versions SET operation = 'qut' WHERE revision = 2":          "Key 'k' version 2",
		"UPDATE versions SET content_type = 'x' WHERE revision = 2":         "Key 'k' version 2",
		"UPDATE versions SET author = 'x' WHERE revision = 2":               "Key 'k' version 2",
		"UPDATE versions SET expires_at = 1 WHERE revision = 2":             "Key 'k' version 2",
		"UPDATE versions SET destroyed = 1 WHERE revision = 2":              "Key 'k' version 2",
		"UPDATE versions SET checksums = checksums + 1 WHERE revision = 2":  "Key 'k' version 2",
		"UPDATE versions SET checksums = -checksums WHERE revision = 2":     "Key 'k' version 2",
		"UPDATE versions SET version = 9 WHERE revision = 2":                "Key 'k' version 9",
		"UPDATE versions SET revision = 9 WHERE revision = 2":               "Key 'k' version 2",
		"UPDATE keys SET total_versions = total_versions + 1 WHERE key='k'": "Key 'k'",
		"UPDATE keys SET timestamp = 1 WHERE key='k'":                       "Key 'k'",
		"UPDATE keys SET complete_from = 2 WHERE key='k'":                   "Key 'k'",
		"UPDATE keys SET pruned = 2 WHERE key='k'":                          "Key 'k'",
		"UPDATE keys SET key = 'j' WHERE key='k'":                           "Key 'j'",
		"UPDATE store SET compacted = 1":                                    "counters of the store",
		"DELETE FROM versions WHERE revision = 2":                           "Key 'k'",
		"UPDATE keys SET deleted = 1 WHERE key='k'":                         "Key 'k'",
	} {
		t.Run(statement, func(t *testing.T) {
			url := databasetest.URL(t)
			db := databasetest.Open(t, url)
			for _, value := range []string{"1", "1", "1"} {
				databasetest.Put(t, db, "k", value)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			rawExec(t, url, statement)
			if _, err := sqlite.Check(t.Context(), url); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Check = %v, want %q", err, want)
			}
			if _, err := sqlite.Backup(t.Context(), url, sqlite.Target{Name: strings.TrimPrefix(url, "sqlite:") + ".backup"}); err == nil {
				t.Error("a backup was made of it")
			}
			var log bytes.Buffer
			db, err := sqlite.Open(t.Context(), sqlite.Config{URL: url, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if strings.Contains(statement, "store") {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("Open = %v, want %q", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if !strings.Contains(log.String(), want) || db.Damage() == 0 {
				t.Errorf("the start says %s", &log)
			}
		})
	}
}

// TestLyingIndex: an index that has another key than the row hides the row from a read, which
// serves nothing else in its place. The check, a backup and a restore find it.
func TestLyingIndex(t *testing.T) {
	url := databasetest.URL(t)
	path := strings.TrimPrefix(url, "sqlite:")
	db := databasetest.Open(t, url)
	for _, key := range []string{"first", "hidden", "last"} {
		databasetest.Put(t, db, key, "1")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	spoilIndex(t, path, "hidden", "hiddeo")

	if _, err := sqlite.Check(t.Context(), url); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("Check = %v", err)
	}
	if _, err := sqlite.Backup(t.Context(), url, sqlite.Target{Name: path + ".backup"}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("Backup = %v", err)
	}
	if _, _, err := sqlite.Restore(t.Context(), path, databasetest.URL(t), time.Now()); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("Restore = %v", err)
	}

	db = databasetest.Open(t, url)
	if _, err := db.Latest(t.Context(), "hidden"); !errors.Is(err, kv.ErrKeyNotFound) && !errors.Is(err, kv.ErrCorrupt) {
		t.Errorf("Latest of the hidden key = %v", err)
	}
	if entry, err := db.Latest(t.Context(), "hiddeo"); !errors.Is(err, kv.ErrCorrupt) {
		t.Errorf("Latest of the key that the index makes up = %+v, %v, want ErrCorrupt", entry, err)
	}
	for _, key := range []string{"first", "last"} {
		if entry, err := db.Latest(t.Context(), key); err != nil || entry.Key != key {
			t.Errorf("Latest of %s = %+v, %v", key, entry, err)
		}
	}
}

// spoilIndex replaces a text by another of its length in each leaf of an index.
func spoilIndex(t *testing.T, path, old, spoiled string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page, leaf = 4096, 0x0a
	found := 0
	for at := page; at < len(data); at += page {
		if data[at] == leaf {
			found += bytes.Count(data[at:at+page], []byte(old))
			copy(data[at:at+page], bytes.ReplaceAll(data[at:at+page], []byte(old), []byte(spoiled)))
		}
	}
	if found == 0 {
		t.Fatal("no index has the key")
	}
	if err := os.WriteFile(path, data, 0o640); err != nil {
		t.Fatal(err)
	}
}
