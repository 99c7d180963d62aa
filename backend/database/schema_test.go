package database_test

import (
	"database/sql"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/kv"
)

// makeSchemaFile writes the file of the present schema version. It is for a new version:
// once a version was released, its file stays as it is.
//
//	go test ./backend/database -run TestSchema1 -make-schema-file
var makeSchemaFile = flag.Bool("make-schema-file", false, "write testdata/schema1.db anew before it is read")

const schema1File = "testdata/schema1.db"

// schema1Entries are the versions that are written to the file; see fillSchema1 for what
// happens to them.
func schema1Entries() []kv.Entry {
	return []kv.Entry{
		{Key: "app/db/host", Version: 1, Revision: 1, Time: 1_764_000_000_000_001, Operation: kv.OpPut, Value: []byte(`"db1"`)},
		{Key: "app/db/host", Version: 2, Revision: 2, Time: 1_764_000_000_000_002, Operation: kv.OpPatch, Author: "ann", Value: []byte(`{"host": "db2", "weight": 0.1000}`)},
		{Key: "page", Version: 1, Revision: 3, Time: 1_764_000_000_000_003, Operation: kv.OpPut, ContentType: "text/html", Value: []byte("<p>hello</p>")},
		{Key: "session", Version: 1, Revision: 4, Time: 1_764_000_000_000_004, Operation: kv.OpPut, Expires: 4_000_000_000_000_000, Value: []byte("1")},
		{Key: "deleted", Version: 1, Revision: 5, Time: 1_764_000_000_000_005, Operation: kv.OpPut, Value: []byte("{}")},
		{Key: "deleted", Version: 2, Revision: 6, Time: 1_764_000_000_000_006, Operation: kv.OpDelete, Value: []byte{}},
		{Key: "destroyed", Version: 1, Revision: 7, Time: 1_764_000_000_000_007, Operation: kv.OpPut, Value: []byte(`"secret"`)},
		{Key: "destroyed", Version: 2, Revision: 8, Time: 1_764_000_000_000_008, Operation: kv.OpPut, Value: []byte("2")},
		{Key: "pruned", Version: 1, Revision: 9, Time: 1_764_000_000_000_009, Operation: kv.OpPut, Value: []byte("1")},
		{Key: "pruned", Version: 2, Revision: 10, Time: 1_764_000_000_000_010, Operation: kv.OpRevert, Value: []byte("2")},
		{Key: "imported", Version: 3, Revision: 11, Time: 1_764_000_000_000_011, Operation: kv.OpPut, Value: []byte(strings.Repeat("7", 5_000))},
		{Key: "erased", Version: 1, Revision: 12, Time: 1_764_000_000_000_012, Operation: kv.OpPut, Value: []byte("1")},
		{Key: "erased", Version: 2, Revision: 13, Time: 1_764_000_000_000_013, Operation: kv.OpDelete, Value: []byte{}},
	}
}

// fillSchema1 writes every kind of row.
func fillSchema1(t *testing.T) {
	t.Helper()
	url := databasetest.FileURL(t)
	db := databasetest.Open(t, url)
	for _, e := range schema1Entries() {
		if e.Key != "imported" { // which lacks what is before it
			e.Version = 0
		}
		databasetest.Write(t, db, e)
	}
	if err := db.Update(t.Context(), func(tx *database.Tx) error {
		if _, err := tx.Destroy("destroyed", []int64{1}); err != nil {
			return err
		}
		if err := tx.Prune("pruned"); err != nil {
			return err
		}
		_, err := tx.Erase("erased", 2)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(schema1File, databasetest.ReadFile(t, url), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestSchema1 opens a file that a program of schema version 1 made, and reads all that is
// in it, twice: whatever this program does to it, it must not lose anything.
func TestSchema1(t *testing.T) {
	if *makeSchemaFile {
		fillSchema1(t)
	}
	data, err := os.ReadFile(schema1File)
	if err != nil {
		t.Fatal(err)
	}
	url := "sqlite:" + filepath.Join(t.TempDir(), "kv_store.db")
	databasetest.WriteFile(t, url, data)
	id := ""
	for range 2 {
		db := databasetest.Open(t, url)
		if id == "" {
			id = db.StoreID()
		}
		readSchema1(t, db, id)
		if drift := db.SchemaDrift(t); len(drift) > 0 {
			t.Errorf("the file and the models differ:\n%s", strings.Join(drift, "\n"))
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if sum, err := sqlite.Check(t.Context(), url); err != nil || sum.StoreID != id || len(id) != 36 {
			t.Errorf("Check = %+v, %v, want the store %s", sum, err, id)
		}
	}
	fresh := databasetest.FileURL(t)
	if err := databasetest.Open(t, fresh).Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(definitions(t, fresh), definitions(t, url)); diff != "" {
		t.Errorf("a new file and the one of version 1 have other tables (-new +version 1):\n%s", diff)
	}
	db := databasetest.Open(t, url)
	databasetest.Put(t, db, "app/db/host", "3")
	if e, err := db.Latest(t.Context(), "app/db/host"); err != nil || e.Version != 3 || e.Revision != 14 {
		t.Errorf("the next write is %+v, %v", e, err)
	}
}

func readSchema1(t *testing.T, db *database.DB, id string) {
	t.Helper()
	if db.StoreID() != id {
		t.Errorf("the store is %s, was %s", db.StoreID(), id)
	}
	for _, want := range schema1Entries() {
		got, err := db.Version(t.Context(), want.Key, want.Version)
		switch {
		case want.Key == "erased", want.Key == "pruned" && want.Version == 1:
			if !errors.Is(err, kv.ErrVersionGone) {
				t.Errorf("%s version %d is %v, want ErrVersionGone", want.Key, want.Version, err)
			}
			continue
		case want.Key == "destroyed" && want.Version == 1:
			want.Destroyed, want.Value = true, []byte{}
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s version %d: %v\n%s", want.Key, want.Version, err, diff)
		}
	}
	stats, err := db.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(kv.Totals{Revision: 13, Keys: 6, Versions: 9, Compacted: 13, Forgotten: 13}, stats.Totals); diff != "" {
		t.Error(diff)
	}
	if h := head(t, db, "pruned"); h.Pruned != 9 || h.CompleteFrom != 2 {
		t.Errorf("the head of the pruned key is %+v", h)
	}
	if h := head(t, db, "erased"); h.ID != 0 || h.Version != 2 {
		t.Errorf("the head of the erased key is %+v", h)
	}
}

func head(t *testing.T, db *database.DB, key string) (found database.Head) {
	t.Helper()
	if err := db.View(t.Context(), func(tx *database.Tx) error {
		err := tx.Load(key)
		if err == nil {
			found, err = tx.Head(key)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// definitions returns what SQLite keeps of tables and indexes.
func definitions(t *testing.T, url string) (all []string) {
	t.Helper()
	raw, err := sql.Open("sqlite3", strings.TrimPrefix(url, "sqlite:"))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	rows, err := raw.Query("SELECT name || ': ' || coalesce(sql, '') FROM sqlite_master ORDER BY name")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var definition string
		if err := rows.Scan(&definition); err != nil {
			t.Fatal(err)
		}
		all = append(all, definition)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
