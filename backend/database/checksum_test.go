package database_test

import (
	"bytes"
	"database/sql"
	"log/slog"
	"strings"
	"testing"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
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
				put(t, db, "k", value)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			rawExec(t, url, statement)
			if _, err := database.Check(t.Context(), url); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Check = %v, want %q", err, want)
			}
			if _, err := database.Backup(t.Context(), url, database.Target{Name: strings.TrimPrefix(url, "sqlite:") + ".backup"}); err == nil {
				t.Error("a backup was made of it")
			}
			var log bytes.Buffer
			db, err := database.Open(t.Context(), database.Config{URL: url, Logger: slog.New(slog.NewTextHandler(&log, nil))})
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
