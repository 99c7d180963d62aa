package database_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gorm.io/gorm"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
)

// TestUpgradeFrom0001 makes a database as the first schema had it, with values from
// none to many overflow pages, and compares every version after the upgrade.
func TestUpgradeFrom0001(t *testing.T) {
	const keys, versions = 40, 6
	path := strings.TrimPrefix(databasetest.URL(t), "sqlite:")
	random := rand.New(rand.NewPCG(3, 4))
	sizes := []int{2, 20, 300, 3_000, 4_100, 9_000, 200_000}
	var want []kv.Entry
	var id string
	database.MakeBefore(t, path, 1, func(db *gorm.DB) error {
		revision := int64(0)
		for version := int64(1); version <= versions; version++ {
			for key := range keys {
				revision++
				value := bytes.Repeat([]byte{byte('0' + random.IntN(10))}, sizes[random.IntN(len(sizes))])
				entry := kv.Entry{
					Key: fmt.Sprintf("key/%02d", key), Value: value, Version: version, Revision: revision,
					Time: kv.Timestamp(1_000_000 + revision), Operation: kv.OpPut,
				}
				want = append(want, entry)
			}
		}
		if err := db.Transaction(func(tx *gorm.DB) error {
			for _, entry := range want {
				if err := writeAs0001(tx, entry); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		if err := db.Exec("UPDATE store SET revision = ?, total_keys = ?, total_versions = ?", revision, keys, revision).Error; err != nil {
			return err
		}
		return db.Raw("SELECT uuid FROM store").Row().Scan(&id)
	})
	for range 2 { // the second time it is a file of the new schema
		db, err := database.Open(t.Context(), database.Config{URL: "sqlite:" + path, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		compareUpgraded(t, db, want)
		if db.StoreID() != id {
			t.Errorf("the id of the store is %s, was %s", db.StoreID(), id)
		}
		stats, err := db.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		totals := kv.Totals{Revision: keys * versions, Keys: keys, Versions: keys * versions}
		if diff := cmp.Diff(totals, stats.Totals); diff != "" {
			t.Error(diff)
		}
		if drift := db.SchemaDrift(t); len(drift) > 0 {
			t.Errorf("an upgraded file and the models differ:\n%s", strings.Join(drift, "\n"))
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := database.Check(t.Context(), "sqlite:"+path); err != nil {
			t.Error(err)
		}
	}
	after, err := database.Open(t.Context(), database.Config{URL: "sqlite:" + path, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	put(t, after, "key/00", "1")
	if entry, err := after.Latest(t.Context(), "key/00"); err != nil || entry.Version != versions+1 {
		t.Errorf("the next write is %v, %v", entry, err)
	}
}

func writeAs0001(db *gorm.DB, e kv.Entry) error {
	var id int64
	if _, err := fmt.Sscanf(e.Key, "key/%d", &id); err != nil {
		return err
	}
	id++
	if e.Version == 1 {
		err := db.Exec("INSERT INTO keys (id, key, version, revision, timestamp, total_versions) VALUES (?, ?, ?, ?, ?, ?)",
			id, e.Key, e.Version, e.Revision, int64(e.Time), e.Version).Error
		if err != nil {
			return err
		}
	}
	err := db.Exec("INSERT INTO versions (revision, key_id, version, timestamp, value) VALUES (?, ?, ?, ?, ?)",
		e.Revision, id, e.Version, int64(e.Time), e.Value).Error
	if err != nil {
		return err
	}
	return db.Exec("UPDATE keys SET version = ?, revision = ?, timestamp = ?, total_versions = ? WHERE id = ?",
		e.Version, e.Revision, int64(e.Time), e.Version, id).Error
}

func compareUpgraded(t *testing.T, db *database.DB, want []kv.Entry) {
	t.Helper()
	latest := map[string]kv.Entry{}
	for _, entry := range want {
		latest[entry.Key] = entry
		got, err := db.Version(t.Context(), entry.Key, entry.Version)
		if err != nil || !reflect.DeepEqual(entry, got) {
			t.Fatalf("%s version %d with %d bytes: after the upgrade %v with %d bytes", entry.Key, entry.Version, len(entry.Value), err, len(got.Value))
		}
	}
	for key, entry := range latest {
		if got, err := db.Latest(t.Context(), key); err != nil || !reflect.DeepEqual(entry, got) {
			t.Errorf("the latest version of %s: %v, version %d, want %d", key, err, got.Version, entry.Version)
		}
	}
}

// TestDestroyedVersionsArePruned: they are counted out already when they go, so the
// counters stay as they are.
func TestDestroyedVersionsArePruned(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	for range 5 {
		put(t, db, "k", "1")
	}
	put(t, db, "late", "1")
	put(t, db, "late", "2")
	if _, err := db.Prune(t.Context(), []string{"late"}, database.Retention{MaxVersions: 1}, 9); err != nil {
		t.Fatal(err)
	}
	if err := db.Update(t.Context(), func(tx *database.Tx) error {
		_, _, err := tx.Destroy("k", []int64{1, 2, 3, 4})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{3, 1, 0} {
		if done, err := db.Prune(t.Context(), []string{"k"}, database.Retention{MaxVersions: 1}, 3); err != nil || done.Versions != want {
			t.Fatalf("Prune = %+v, %v, want %d", done, err, want)
		}
	}
	stats, err := db.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(kv.Totals{Revision: 7, Keys: 2, Versions: 2, Compacted: 6}, stats.Totals); diff != "" {
		t.Error(diff)
	}
}
