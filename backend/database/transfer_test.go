package database_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/postgres"
	"kvstore/backend/database/postgres/postgrestest"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/kv"
)

// rowsOf returns all rows of a database, whatever its engine, as text in the order of the primary keys.
func rowsOf(t *testing.T, url string) (all []string) {
	t.Helper()
	for _, query := range []string{
		"SELECT uuid, created_at, revision, total_keys, total_versions, compacted, forgotten, restored, checksum FROM store",
		`SELECT id, key, version, revision, timestamp, total_versions, deleted, expires_at, complete_from, pruned, checksum FROM keys ORDER BY id`,
		`SELECT revision, key_id, version, timestamp, operation, content_type, author, expires_at, destroyed, checksums, value
			FROM versions ORDER BY revision`,
		"SELECT digest, version, checksum FROM erased ORDER BY digest",
	} {
		all = append(all, resultOf(t, url, query)...)
	}
	return all
}

// resultOf returns the rows of a query as text that does not depend on the engine.
func resultOf(t *testing.T, url, query string) (all []string) {
	t.Helper()
	rows, err := databasetest.Raw(t, url).QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, _ := rows.Columns()
	for rows.Next() {
		values, targets := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			t.Fatal(err)
		}
		for i, value := range values {
			switch value := value.(type) {
			case string:
				values[i] = []byte(value)
			case bool:
				values[i] = map[bool]int64{true: 1}[value]
			}
		}
		all = append(all, fmt.Sprintf("%q", values))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// anyKey returns a key of any characters that a key may have.
func anyKey(random *rand.Rand) string {
	var key strings.Builder
	for key.Len() < 1+random.IntN(20) {
		r := rune(random.IntN([]int{128, 2048, 65536, utf8.MaxRune + 1}[random.IntN(4)]))
		if utf8.ValidRune(r) && r >= 32 && r != 127 {
			key.WriteRune(r)
		}
	}
	return key.String()
}

// fillStore writes a store with everything that rows may have, and returns its keys.
func fillStore(t *testing.T, db *database.DB, random *rand.Rand) (keys []string) {
	t.Helper()
	large := make([]byte, 3<<20)
	for i := range large {
		large[i] = byte(random.Uint32())
	}
	entries := []kv.Entry{
		{Key: "empty", Value: []byte{}, ContentType: "text/plain"},
		{Key: "large", Value: large, ContentType: "application/octet-stream", Author: "Ann"},
		{Key: "zeros", Value: []byte{0, 255, 0, '\\', 'x'}, ContentType: "image/png"},
		{Key: `a\x41`, Value: []byte(`"\u0000"`)},
		{Key: "deleted", Value: []byte("1")},
		{Key: "deleted", Operation: kv.OpDelete},
		{Key: "expired", Value: []byte("1"), Expires: 50},
		{Key: "expired", Operation: kv.OpExpire, Time: 1 << 50},
		{Key: "ends", Value: []byte("1"), Expires: 1 << 60, Author: "Björn"},
	}
	for range 350 {
		keys = append(keys, anyKey(random), randomKey(random))
	}
	for range 3_000 {
		key := keys[random.IntN(len(keys))]
		entries = append(entries, kv.Entry{Key: key, Value: []byte(fmt.Sprintf(`{"n":%d.0}`, random.Uint64()))})
	}
	databasetest.Write(t, db, entries...)
	if _, err := db.Prune(t.Context(), keys[:50], database.Retention{MaxVersions: 2}, 1000); err != nil {
		t.Fatal(err)
	}
	err := db.Update(t.Context(), func(tx *database.Tx) error {
		if err := tx.Load("erased"); err != nil {
			return err
		}
		tx.Append(kv.Entry{Key: "erased", Time: 9, Operation: kv.OpPut, Value: []byte("1")})
		tx.Append(kv.Entry{Key: "erased", Time: 9, Operation: kv.OpDestroy})
		_, err := tx.Save()
		if err == nil {
			_, err = tx.Erase("erased", 2)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"large", keys[60], "ends"} {
		if err := db.Update(t.Context(), func(tx *database.Tx) error {
			_, err := tx.Destroy(key, []int64{1})
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	databasetest.Write(t, db, kv.Entry{Key: "large", Value: large, ContentType: "application/octet-stream"})
	return keys
}

func run(t *testing.T, transfer database.Transfer) database.Summary {
	t.Helper()
	made, err := transfer.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// listed returns all keys in the order of the pages.
func listed(t *testing.T, url string) (all []string) {
	t.Helper()
	db := databasetest.Open(t, url)
	for after := ""; ; {
		page, err := db.Keys(t.Context(), kv.KeysRequest{After: after, Limit: 100, Deleted: true}, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range page.Keys {
			all = append(all, key.Latest.Key)
		}
		if page.NextAfter == "" {
			break
		}
		after = page.NextAfter
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestTransfer: from SQLite to PostgreSQL and back every row is the same, as are the keys in their order.
func TestTransfer(t *testing.T) {
	first, second, third := databasetest.FileURL(t), postgrestest.Database(t), databasetest.FileURL(t)
	db := databasetest.Open(t, first)
	fillStore(t, db, rand.New(rand.NewPCG(1, 2)))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	reported := 0
	report := func(string, int64, int64) { reported++ }
	made := run(t, database.Transfer{From: sqlite.FromStopped(first), To: postgres.ToEmpty(second, "test"), Report: report})
	back := run(t, database.Transfer{From: postgres.FromStopped(second), To: sqlite.ToNew(third)})
	want := rowsOf(t, first)
	if len(want) < 2_500 || reported < 4 || made.StoreID == "" || made != back {
		t.Errorf("%d rows, %d reports, %+v, then %+v", len(want), reported, made, back)
	}
	for name, url := range map[string]string{"PostgreSQL": second, "SQLite again": third} {
		if got := rowsOf(t, url); !slices.Equal(want, got) {
			t.Errorf("on %s there are %d rows of %d, or others", name, len(got), len(want))
		}
		if diff := cmp.Diff(listed(t, first), listed(t, url)); diff != "" {
			t.Errorf("the keys on %s (-want +got):\n%s", name, diff)
		}
	}
	if again, err := os.ReadFile(strings.TrimPrefix(third, "sqlite:")); err != nil || len(again) < 3<<20 {
		t.Errorf("%d bytes, %v", len(again), err)
	}
	// What was moved can be written on, with the next revision.
	db = databasetest.Open(t, second)
	entry := []kv.Entry{{Key: "erased", Value: []byte("1")}}
	databasetest.Write(t, db, entry...)
	if entry[0].Version != 3 || entry[0].Revision != made.Revision+1 || db.StoreID() != made.StoreID {
		t.Errorf("after %+v: %+v", made, entry[0])
	}
}

// TestTransferRestored: a restore to PostgreSQL goes on above every revision that may have been used.
func TestTransferRestored(t *testing.T) {
	source, target := databasetest.FileURL(t), postgrestest.Database(t)
	db := databasetest.Open(t, source)
	databasetest.Put(t, db, "k", "1")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	backup := strings.TrimPrefix(source, "sqlite:")
	made := run(t, database.Transfer{From: sqlite.FromFile(backup), To: postgres.ToEmpty(target, "test"), Restored: time.UnixMicro(7 + 1<<40)})
	stats, err := databasetest.Open(t, target).Stats(t.Context())
	const next = 1 + 1<<40
	if want := (kv.Totals{Revision: next, Keys: 1, Versions: 1, Compacted: next, Restored: next}); err != nil || stats.Totals != want ||
		made.Revision != 1 || made.Restored != next {
		t.Errorf("%+v, %v, the transfer says %+v", stats, err, made)
	}
}

// TestTransferRefuses: the reason is said, and the destination stays as it was.
func TestTransferRefuses(t *testing.T) {
	source := databasetest.FileURL(t)
	db := databasetest.Open(t, source)
	databasetest.Put(t, db, "k", "1")
	refused := func(name string, transfer database.Transfer, words ...string) {
		t.Helper()
		_, err := transfer.Run(t.Context())
		for _, word := range words {
			if err == nil || !strings.Contains(err.Error(), word) || strings.Contains(err.Error(), postgrestest.Password) {
				t.Errorf("%s: %v\ndoes not say %q", name, err, word)
			}
		}
	}
	full, empty := postgrestest.Database(t), postgrestest.Database(t)
	refused("a file in use", database.Transfer{From: sqlite.FromStopped(source), To: postgres.ToEmpty(empty, "test")}, "in use by another process")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, database.Transfer{From: sqlite.FromStopped(source), To: postgres.ToEmpty(full, "test")})
	before := rowsOf(t, full)
	refused("a full server", database.Transfer{From: sqlite.FromStopped(source), To: postgres.ToEmpty(full, "test")}, "not empty", "revision 1")
	refused("a full file", database.Transfer{From: postgres.FromStopped(full), To: sqlite.ToNew(source)}, "exists already")
	stale := databasetest.FileURL(t)
	databasetest.WriteFile(t, stale+"-wal", []byte("of a database that was removed"))
	refused("a log", database.Transfer{From: postgres.FromStopped(full), To: sqlite.ToNew(stale)}, "-wal exists already")
	refused("no store", database.Transfer{From: postgres.FromStopped(postgrestest.Database(t)), To: sqlite.ToNew(databasetest.FileURL(t))}, "holds no store")
	used := databasetest.Open(t, full)
	refused("a server in use", database.Transfer{From: postgres.FromStopped(full), To: sqlite.ToNew(databasetest.FileURL(t))}, "in use", "stop every backend")
	if err := used.Close(); err != nil {
		t.Fatal(err)
	}
	databasetest.Open(t, empty)
	refused("an empty server in use", database.Transfer{From: sqlite.FromStopped(source), To: postgres.ToEmpty(empty, "test")}, "in use")
	if got := rowsOf(t, full); !slices.Equal(before, got) {
		t.Errorf("%q, before %q", got, before)
	}
	t.Run("a write meanwhile", func(t *testing.T) {
		to := databasetest.FileURL(t)
		late := func(ctx context.Context, fill func(database.Empty) error) error {
			return sqlite.ToNew(to)(ctx, func(e database.Empty) error {
				save := e.Save
				e.Save = func(s database.Identity, c database.Commit) error {
					other := databasetest.Open(t, full)
					databasetest.Put(t, other, "late", "1")
					return save(s, c)
				}
				return fill(e)
			})
		}
		refused("late", database.Transfer{From: postgres.FromStopped(full), To: late}, "has written meanwhile")
		if _, err := os.Stat(strings.TrimPrefix(to, "sqlite:")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the file is there: %v", err)
		}
	})
}

// TestTransferInterrupted: wherever a transfer ends early, the destination is empty, and the next works.
func TestTransferInterrupted(t *testing.T) {
	source := databasetest.FileURL(t)
	db := databasetest.Open(t, source)
	fillStore(t, db, rand.New(rand.NewPCG(3, 4)))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	target, file := postgrestest.Database(t), databasetest.FileURL(t)
	interrupted := func(at string, from database.Source, to database.Destination) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		report := func(doing string, versions, _ int64) {
			if doing == at && versions >= 1000 {
				cancel()
			}
		}
		if _, err := (database.Transfer{From: from, To: to, Report: report}).Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want Canceled", at, err)
		}
	}
	for _, at := range []string{"copying", "comparing"} {
		interrupted(at, sqlite.FromStopped(source), postgres.ToEmpty(target, "test"))
		if stats, err := databasetest.Open(t, target).Stats(t.Context()); err != nil || stats.Totals != (kv.Totals{}) {
			t.Errorf("%s: %+v, %v", at, stats, err)
		}
		target = postgrestest.Database(t) // the one before is open
	}
	run(t, database.Transfer{From: sqlite.FromStopped(source), To: postgres.ToEmpty(target, "test")})
	for _, at := range []string{"copying", "comparing"} {
		interrupted(at, postgres.FromStopped(target), sqlite.ToNew(file))
		if left, err := filepath.Glob(strings.TrimPrefix(file, "sqlite:") + "*"); err != nil || len(left) != 1 { // the lock
			t.Errorf("%s: left are %q, %v", at, left, err)
		}
	}
	run(t, database.Transfer{From: postgres.FromStopped(target), To: sqlite.ToNew(file)})
}

// TestTransferFindsDamage: a row that is not what was written is not copied, and one that arrives otherwise
// is noticed.
func TestTransferFindsDamage(t *testing.T) {
	source := postgrestest.Database(t)
	db := databasetest.Open(t, source)
	databasetest.Put(t, db, "k", "1")
	databasetest.Put(t, db, "k", "2")
	raw := databasetest.Raw(t, source)
	change := func(statement string) {
		t.Helper()
		if _, err := raw.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	transfer := database.Transfer{From: postgres.Snapshot(source), To: sqlite.ToNew(databasetest.FileURL(t))}
	change(`UPDATE versions SET value = '\x33' WHERE revision = 1`)
	if _, err := transfer.Run(t.Context()); !errors.Is(err, kv.ErrCorrupt) || !strings.Contains(err.Error(), "Key 'k' version 1") {
		t.Errorf("a damaged value: %v", err)
	}
	if _, err := database.Verify(t.Context(), postgres.Snapshot(source)); err == nil || !strings.Contains(err.Error(), "Key 'k' version 1") {
		t.Errorf("Verify of a damaged value: %v", err)
	}
	change(`UPDATE versions SET value = '\x31' WHERE revision = 1`)
	change("DELETE FROM versions WHERE revision = 1")
	if _, err := transfer.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "counts 2 versions and has 1") {
		t.Errorf("a missing row: %v", err)
	}
	to := func(ctx context.Context, fill func(database.Empty) error) error {
		return sqlite.ToNew(databasetest.FileURL(t))(ctx, func(e database.Empty) error {
			save := e.Save
			e.Save = func(s database.Identity, c database.Commit) error {
				return errors.Join(save(s, c), e.Tx.Exec("UPDATE keys SET key = 'l', checksum = checksum").Error)
			}
			return fill(e)
		})
	}
	if _, err := (database.Transfer{From: postgres.Snapshot(source), To: to}).Run(t.Context()); !errors.Is(err, kv.ErrCorrupt) {
		t.Errorf("a row that was changed on the way: %v", err)
	}
}
