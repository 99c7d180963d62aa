// Package databasetest opens real databases for tests.
package databasetest

import (
	"log/slog"
	"path/filepath"
	"testing"

	"kvstore/backend/database"
)

// URL returns the URL of a database file that does not exist yet, in a directory
// that ends with the test.
func URL(t testing.TB) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "kv_store.db")
}

// Open opens the database and closes it when the test ends.
func Open(t testing.TB, url string) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), database.Config{URL: url, Logger: slog.New(slog.DiscardHandler)})
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
