package grown_test

import (
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"kvstore/backend/cache"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/kv"
	"kvstore/backend/store"
	"kvstore/bench/generator"
	"kvstore/bench/grown"
)

// The store can read the filled database and continue writing to it.
func TestFill(t *testing.T) {
	load := generator.Load{Name: "growth", Keys: 2000}
	path := filepath.Join(t.TempDir(), "kv_store.db")
	var last int64
	err := grown.Fill(t.Context(), grown.Config{Path: path, Load: load, Logs: t.Output(), Progress: func(n int64) { last = n }})
	if err != nil {
		t.Fatal(err)
	}
	total := int64(load.Keys * grown.VersionsPerKey)
	if last != total {
		t.Errorf("the progress ends with %d of %d", last, total)
	}
	s := open(t, path)
	stats, err := s.DatabaseStats(t.Context())
	if want := (kv.Totals{Revision: total, Keys: int64(load.Keys), Versions: total}); err != nil || stats.Totals != want {
		t.Errorf("%+v, %v, want %+v", stats.Totals, err, want)
	}
	for _, number := range []int{0, 1599, 1600, 1999} {
		name := load.Key(number)
		entry, _, err := s.Get(t.Context(), name)
		sequence, ok := generator.Sequence(entry.Value, name)
		if err != nil || !ok || sequence != uint64(number) || entry.Version != grown.VersionsPerKey {
			t.Errorf("%s: %+v, %v", name, entry, err)
		}
		if entry, _, err := s.GetVersion(t.Context(), name, 1); err != nil || entry.Version != 1 {
			t.Errorf("%s, version 1: %+v, %v", name, entry, err)
		}
		written, err := s.Write(t.Context(), store.Change{Operation: kv.OpPut, Key: name, Value: []byte("1")})
		if err != nil || written.Entry.Version != grown.VersionsPerKey+1 || written.TotalVersions != grown.VersionsPerKey+1 {
			t.Errorf("%s: put: %+v, %v", name, written, err)
		}
	}
}

func open(t *testing.T, path string) *store.Store {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	db, err := sqlite.Open(t.Context(), sqlite.Config{URL: "sqlite:" + path, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	c, err := cache.New(cache.Config[kv.Entry]{MaxKeys: 1, MaxBytes: 1 << 20, Size: func(_ string, e kv.Entry) int64 { return e.Size() }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s, err := store.New(store.Config{Database: db, Cache: c, MaxValueBytes: 1 << 20, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestCheckDisk(t *testing.T) {
	if err := grown.CheckDisk(t.TempDir(), math.MaxInt64/(2*grown.BytesPerVersion)); err == nil || !strings.Contains(err.Error(), "--sizes") {
		t.Errorf("%v", err)
	}
}
