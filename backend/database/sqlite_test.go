package database_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
)

func TestParseURL(t *testing.T) {
	for url, want := range map[string]string{
		"sqlite:data/kv_store.db": "data/kv_store.db",
		"sqlite:/abs/kv.db":       "/abs/kv.db",
		"sqlite:///abs/kv.db":     "/abs/kv.db",
		"sqlite:with space%.db":   "with space%.db",
	} {
		if got, err := database.ParseURL(url); err != nil || got != want {
			t.Errorf("ParseURL(%q) = %q, %v, want %q", url, got, err, want)
		}
	}
	for _, url := range []string{"", "data/kv.db", "postgres://h/db", "sqlite:", "sqlite::memory:", "sqlite:x?mode=ro", "sqlite:a#b"} {
		if got, err := database.ParseURL(url); err == nil {
			t.Errorf("ParseURL(%q) = %q, want an error", url, got)
		}
	}
}

func TestOddFileNames(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "a dir", "100% ü.db")
	db := databasetest.Open(t, url)
	put(t, db, "k", "1")
	if _, err := os.Stat(strings.TrimPrefix(url, "sqlite:")); err != nil {
		t.Error(err)
	}
}
