package database_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
)

// TestEraseRemembers: an erased key is gone, and how far it had counted is known;
// the second time too, when it is remembered already.
func TestEraseRemembers(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	heads := func() (found map[string]database.Head) {
		err := db.Update(t.Context(), func(tx *database.Tx) (err error) {
			found, err = tx.Heads([]string{"k"})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	for round := range int64(2) {
		put(t, db, "k", "1")
		put(t, db, "k", "2")
		head := heads()["k"]
		err := db.Update(t.Context(), func(tx *database.Tx) error { return tx.Erase("k", head) })
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]database.Head{"k": {Version: 2 * (round + 1)}}, heads()); diff != "" {
			t.Errorf("round %d: %s", round, diff)
		}
		stats, err := db.Stats(t.Context())
		if err != nil || stats.Versions != 0 {
			t.Errorf("round %d: %d versions, %v", round, stats.Versions, err)
		}
	}
}
