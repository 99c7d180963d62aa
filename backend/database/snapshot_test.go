package database_test

import (
	"fmt"
	"testing"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
)

// TestView: many keys are read as they were at one moment, in few statements, each by an
// index; a value that makes the answer too large is not read.
func TestView(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	entries := make([]kv.Entry, 0, 300)
	keys := make([]string, 100)
	for i := range cap(entries) {
		keys[i%100] = fmt.Sprint("k", i%100)
		entries = append(entries, kv.Entry{Key: keys[i%100], Value: []byte(fmt.Sprint(i))})
	}
	databasetest.Write(t, db, entries...)
	statements := db.Statements(t, func() {
		err := db.View(t.Context(), func(tx *database.Tx) error {
			if tx.Totals.Revision != 300 {
				t.Errorf("revision %d", tx.Totals.Revision)
			}
			databasetest.Write(t, db, kv.Entry{Key: "k7", Value: []byte("later")})
			if err := tx.Load(keys...); err != nil {
				return err
			}
			found, err := tx.Latest(keys, 1<<20)
			if err != nil || len(found) != 100 || string(found["k7"].Value) != "207" || found["k7"].Version != 3 {
				t.Errorf("%d entries, %+v, %v", len(found), found["k7"], err)
			}
			if few, err := tx.Latest(keys, 30); err != nil || len(few) < 10 || len(few) > 20 {
				t.Errorf("%d entries of up to 30 bytes, %v", len(few), err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	if len(statements) > 6 { // the counters, and two statements for each list of 100; the last list ends early
		t.Errorf("%d statements: %v", len(statements), statements)
	}
	wantPlans(t, statements)
}
