package database_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
)

// TestPruneOfTimesOutOfOrder: a version that is younger than a later one cannot be, so
// something is wrong, and neither goes.
func TestPruneOfTimesOutOfOrder(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	times := []kv.Timestamp{20, 10, 30}
	if err := db.Update(t.Context(), func(tx *database.Tx) error {
		if err := tx.Load("k"); err != nil {
			return err
		}
		for _, at := range times {
			tx.Append(kv.Entry{Key: "k", Time: at, Operation: kv.OpPut, Value: []byte("1")})
			tx.Redate(at)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if done, err := db.Prune(t.Context(), []string{"k"}, database.Retention{Before: 15}, 9); err != nil || !errors.Is(done.Failed["k"], kv.ErrCorrupt) {
		t.Errorf("Prune = %+v, %v, want ErrCorrupt of k", done, err)
	}
	for version := range int64(3) {
		if _, err := db.Version(t.Context(), "k", version+1); err != nil {
			t.Error(err)
		}
	}
}

// TestDestroyedVersionsArePruned: they are counted out already when they go, so the
// counters stay as they are.
func TestDestroyedVersionsArePruned(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	for range 5 {
		databasetest.Put(t, db, "k", "1")
	}
	databasetest.Put(t, db, "late", "1")
	databasetest.Put(t, db, "late", "2")
	if _, err := db.Prune(t.Context(), []string{"late"}, database.Retention{MaxVersions: 1}, 9); err != nil {
		t.Fatal(err)
	}
	if err := db.Update(t.Context(), func(tx *database.Tx) error {
		_, err := tx.Destroy("k", []int64{1, 2, 3, 4})
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
