package postgres_test

import (
	"regexp"
	"strings"
	"testing"

	"kvstore/backend/database"
	"kvstore/backend/database/postgres"
	"kvstore/backend/database/postgres/postgrestest"
	"kvstore/backend/kv"
)

// scanned matches a step of a plan that reads the whole of a table that grows.
var scanned = regexp.MustCompile(`"Node Type": "(?:Seq Scan",(?s:[^{}]*)"Relation Name": "(?:keys|versions|commits|erased)"|(?:Hash|Merge) Join")`)

// TestPlans: each statement of a usual read and write finds its rows by an index, whatever the values are, in
// tables that are empty, that grow faster than the server looks at them, and that are large.
func TestPlans(t *testing.T) {
	const fill = `WITH k AS (
			INSERT INTO keys SELECT n, ('key' || n)::bytea, 10, n * 10, n, 10, false, 0, 1, 0, 0 FROM generate_series(1000, $1) AS n
		), c AS (
			INSERT INTO commits SELECT n, uuid_send(gen_random_uuid()), backend, 0, 0, clock, 0, 0, 0, 0, 0, touched, checksum
				FROM commits CROSS JOIN generate_series(1, $1) AS n
		)
		INSERT INTO versions SELECT n, n / 10, n % 10 + 1, n, 'put', '', '', 0, false, 0, '' FROM generate_series(10000, $1 * 10 + 9) AS n`
	for name, prepare := range map[string]string{
		"empty": "ANALYZE", "not analyzed": strings.ReplaceAll(fill, "$1", "2000"),
		"large": strings.ReplaceAll(fill, "$1", "8000") + "; ANALYZE",
	} {
		t.Run(name, func(t *testing.T) {
			url := postgrestest.Database(t)
			conn := connect(t, url)
			db, err := postgres.Open(t.Context(), postgres.Config{URL: url, Readers: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			for _, statement := range strings.Split("ALTER TABLE keys SET (autovacuum_enabled = off); ALTER TABLE versions SET (autovacuum_enabled = off); "+prepare, ";") {
				exec(t, conn, statement)
			}
			useAll(t, db)
			plans := postgres.Plans(t, db)
			if len(plans) < 20 {
				t.Errorf("only %d statements were made", len(plans))
			}
			for statement, plan := range plans {
				if scanned.MatchString(plan) {
					t.Errorf("%s\nhas the plan\n%s", statement, plan)
				}
			}
		})
	}
}

// useAll makes the usual reads and writes. What they find does not matter.
func useAll(t *testing.T, db *database.DB) {
	t.Helper()
	ctx := t.Context()
	mark, err := db.Last(ctx)
	if err != nil {
		t.Fatal(err)
	}
	now := kv.NewTimestamp(db.Now())
	for range 3 {
		for _, keys := range [][]string{{"a"}, {"a", "b", "c"}, {"d", "e", "f", "g", "h"}} {
			err := db.Update(ctx, func(tx *database.Tx) error {
				tx.MaxVersions = 1
				if err := tx.Load(keys...); err != nil {
					return err
				}
				for _, key := range keys {
					tx.Append(kv.Entry{Key: key, Value: []byte("1"), Time: now, Operation: kv.OpPut})
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = db.Update(ctx, func(tx *database.Tx) error { // refused, for the lock alone
		_, err := tx.Destroy("none", []int64{1})
		return err
	})
	_, _ = db.Latest(ctx, "a")
	_, _ = db.Version(ctx, "a", 1)
	_, _ = db.At(ctx, "a", now)
	_, _, _ = db.History(ctx, "a", kv.HistoryRequest{Limit: 10, MaxBytes: 1})
	_, _, _ = db.History(ctx, "a", kv.HistoryRequest{Limit: 10, MaxBytes: 1, Oldest: true, Values: true})
	for _, r := range []kv.KeysRequest{{Limit: 10}, {Limit: 10, Prefix: "a", After: "ab"}, {Limit: 10, Delimiter: "/", Deleted: true}} {
		_, _ = db.Keys(ctx, r, now)
	}
	_, _ = db.Events(ctx, database.EventsRequest{Keys: kv.AllKeys(), Last: 10, Values: true})
	_, _ = db.Expired(ctx, now, database.Expired{}, 10)
	if err := db.Follow(ctx, mark, func(database.Followed) {}); err != nil {
		t.Error(err)
	}
}
