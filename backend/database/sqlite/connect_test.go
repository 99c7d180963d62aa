package sqlite_test

import (
	"strconv"
	"testing"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/kv"
)

// TestStatementsArePlannedOnce: SQLite does not plan a statement anew when other values are
// bound to it (see dialector.BindVarTo).
func TestStatementsArePlannedOnce(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	for i := range 50 {
		databasetest.Put(t, db, "k"+strconv.Itoa(i%5), "1")
	}
	db, asked := sqlite.CountPlans(t, db)
	for name, read := range map[string]func(key string, n int64) error{
		"Latest":  func(key string, _ int64) error { _, err := db.Latest(t.Context(), key); return err },
		"Version": func(key string, n int64) error { _, err := db.Version(t.Context(), key, n); return err },
		"At":      func(key string, n int64) error { _, err := db.At(t.Context(), key, kv.Timestamp(6+n)); return err },
		"History": func(key string, n int64) error {
			_, _, err := db.History(t.Context(), key, kv.HistoryRequest{Before: n, Limit: int(n), Values: true, MaxBytes: 1000})
			return err
		},
		"Keys": func(key string, n int64) error {
			_, err := db.Keys(t.Context(), kv.KeysRequest{Prefix: key, Limit: int(n)}, kv.Timestamp(n))
			return err
		},
		"Events": func(_ string, n int64) error {
			_, err := db.Events(t.Context(), database.EventsRequest{Keys: kv.AllKeys(), After: n, Last: 50, Values: true})
			return err
		},
		"Expired": func(_ string, n int64) error {
			_, err := db.Expired(t.Context(), kv.Timestamp(n), database.Expired{}, int(n))
			return err
		},
		"Update": func(key string, n int64) error {
			databasetest.Put(t, db, key, strconv.FormatInt(n, 10))
			return nil
		},
	} {
		for round := range int64(5) {
			before := asked.Load()
			if err := read("k"+strconv.FormatInt(round, 10), round+1); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if n := asked.Load() - before; round > 0 && n > 0 {
				t.Errorf("%s plans again in round %d, and asks %d times", name, round, n)
			}
		}
	}
}
