package database_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
)

// TestEraseRemembers: an erased key is gone, and how far it had counted is known;
// the second time too, when it is remembered already.
func TestEraseRemembers(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	for round := range int64(2) {
		databasetest.Put(t, db, "k", "1")
		databasetest.Put(t, db, "k", "2")
		version := head(t, db, "k").Version
		err := db.Update(t.Context(), func(tx *database.Tx) error {
			done, err := tx.Erase("k", version)
			if err == nil && !done {
				t.Error("two versions are too many for one transaction")
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(database.Head{Version: 2 * (round + 1)}, head(t, db, "k")); diff != "" {
			t.Errorf("round %d: %s", round, diff)
		}
		stats, err := db.Stats(t.Context())
		if err != nil || stats.Versions != 0 {
			t.Errorf("round %d: %d versions, %v", round, stats.Versions, err)
		}
	}
}

// TestNewKeysAfterErase: that some keys were erased costs others no statement.
func TestNewKeysAfterErase(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	round := 0
	statements := func() []string {
		round++
		entries := make([]kv.Entry, 100)
		for i := range entries {
			entries[i] = kv.Entry{Key: fmt.Sprintf("%d/%d", round, i), Value: []byte("1")}
		}
		return db.Writes(func() { databasetest.Write(t, db, entries...) })
	}
	before := len(statements())
	databasetest.Put(t, db, "k", "1")
	if err := db.Update(t.Context(), func(tx *database.Tx) error {
		_, err := tx.Erase("k", 1)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if after := statements(); len(after) > before {
		t.Errorf("100 new keys take %d statements after an erasure, before it %d:\n%s", len(after), before, strings.Join(after, "\n"))
	}
}
