// Package databasetest opens real databases for tests.
package databasetest

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kvstore/backend/database"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/kv"
)

// URL returns the URL of a database file that does not exist yet, in a directory
// that ends with the test.
func URL(t testing.TB) string {
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
	return open(t, sqlite.Config{URL: url, Logger: slog.New(slog.DiscardHandler)})
}

func open(t testing.TB, cfg sqlite.Config) *database.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), cfg)
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
