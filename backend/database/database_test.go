package database_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(databasetest.Tests{M: m}) }

func TestRoundTrip(t *testing.T) {
	url := databasetest.URL(t)
	db := databasetest.Open(t, url)
	databasetest.Put(t, db, "k", "1")
	databasetest.Put(t, db, "other", `"x"`)
	databasetest.Put(t, db, "k", "2")

	latest, err := db.Latest(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(kv.Entry{Key: "k", Value: []byte("2"), Version: 2, Revision: 3, Time: 7, Operation: kv.OpPut}, latest); diff != "" {
		t.Error(diff)
	}
	first, err := db.Version(t.Context(), "k", 1)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(kv.Entry{Key: "k", Value: []byte("1"), Version: 1, Revision: 1, Time: 7, Operation: kv.OpPut}, first); diff != "" {
		t.Error(diff)
	}
	if _, err := db.Latest(t.Context(), "none"); !errors.Is(err, kv.ErrKeyNotFound) {
		t.Errorf("Latest of a missing key: %v, want ErrKeyNotFound", err)
	}
	if _, err := db.Version(t.Context(), "k", 3); !errors.Is(err, kv.ErrVersionNotFound) {
		t.Errorf("Version of a missing version: %v, want ErrVersionNotFound", err)
	}
	stats, err := db.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(kv.Totals{Revision: 3, Keys: 2, Versions: 3}, stats.Totals); diff != "" {
		t.Error(diff)
	}
	if stats.Bytes <= 0 {
		t.Errorf("Stats().Bytes = %d, want the size of the file", stats.Bytes)
	}

	id := db.StoreID()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	again := databasetest.Open(t, url)
	if again.StoreID() != id {
		t.Errorf("store id after reopening = %s, want %s", again.StoreID(), id)
	}
	if entry, err := again.Latest(t.Context(), "k"); err != nil || entry.Version != 2 {
		t.Errorf("Latest after reopening = %v, %v", entry, err)
	}
}

func TestSpace(t *testing.T) {
	db := databasetest.Open(t, databasetest.FileURL(t))
	databasetest.Put(t, db, "k", "1")
	if bytes, err := db.LogBytes(); err != nil || bytes == 0 {
		t.Errorf("the log has %d bytes, %v", bytes, err)
	}
	if free, size, known := db.DiskBytes(); !known || free <= 0 || size < free {
		t.Errorf("%d of %d bytes are free, known %v", free, size, known)
	}
}

func TestUpdateIsAllOrNothing(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	databasetest.Put(t, db, "k", "1")
	boom := errors.New("boom")
	err := db.Update(t.Context(), func(tx *database.Tx) error {
		if err := tx.Load("k"); err != nil {
			return err
		}
		tx.Append(kv.Entry{Key: "k", Value: []byte("2")})
		if _, err := tx.Save(); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("Update = %v, want the error of its function", err)
	}
	if entry, err := db.Latest(t.Context(), "k"); err != nil || entry.Version != 1 {
		t.Errorf("Latest after a failed Update = %v, %v, want version 1", entry, err)
	}
	if stats, err := db.Stats(t.Context()); err != nil || stats.Revision != 1 {
		t.Errorf("Stats after a failed Update = %v, %v, want revision 1", stats, err)
	}
}

// TestTry: a request that fails leaves nothing in the transaction, and what comes after it is
// numbered as if it had not been.
func TestTry(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	databasetest.Put(t, db, "a", "1")
	boom := errors.New("boom")
	entry := func(key, value string) kv.Entry {
		return kv.Entry{Key: key, Value: []byte(value), Operation: kv.OpPut, Time: 9}
	}
	err := db.Update(t.Context(), func(tx *database.Tx) error {
		if err := tx.Load("a", "b"); err != nil {
			return err
		}
		tx.Append(entry("a", "2"))
		head, err := tx.Head("a")
		if err != nil {
			return err
		}
		totals := tx.Totals
		if err := tx.Try(func() error {
			tx.Append(entry("a", "lost"))
			tx.Append(entry("b", "lost"))
			tx.Append(kv.Entry{Key: "a", Operation: kv.OpDelete, Time: 9})
			return boom
		}); !errors.Is(err, boom) {
			t.Errorf("Try = %v, want the error of its function", err)
		}
		if now, err := tx.Head("a"); err != nil || now != head || tx.Totals != totals {
			t.Errorf("after Try: %+v, %v, %+v; want %+v, %+v", now, err, tx.Totals, head, totals)
		}
		if e, err := tx.Entry("a", 2); err != nil || string(e.Value) != "2" {
			t.Errorf("version 2, which is not saved: %+v, %v", e, err)
		}
		if _, err := tx.Entry("a", 3); !errors.Is(err, kv.ErrVersionNotFound) {
			t.Errorf("version 3: %v, want ErrVersionNotFound", err)
		}
		if w := tx.Append(entry("b", "1")); w.Entry.Version != 1 || w.Entry.Revision != 3 || !w.Created() {
			t.Errorf("the first version of b: %+v", w)
		}
		saved, err := tx.Save()
		if err != nil || len(saved) != 2 || saved[0].Key != "a" || saved[1].Key != "b" {
			t.Errorf("Save = %+v, %v", saved, err)
		}
		tx.Append(entry("a", "3")) // Update saves it
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]kv.Entry{
		"a": {Key: "a", Value: []byte("3"), Version: 3, Revision: 4, Time: 9, Operation: kv.OpPut},
		"b": {Key: "b", Value: []byte("1"), Version: 1, Revision: 3, Time: 9, Operation: kv.OpPut},
	} {
		if got, err := db.Latest(t.Context(), key); err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("%s: %v, %s", key, err, cmp.Diff(want, got))
		}
	}
	if stats, err := db.Stats(t.Context()); err != nil || stats.Totals != (kv.Totals{Revision: 4, Keys: 2, Versions: 4}) {
		t.Errorf("Stats = %+v, %v", stats, err)
	}
}

func TestVersionsAreUnique(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	databasetest.Put(t, db, "k", "1")
	err := db.Update(t.Context(), func(tx *database.Tx) error {
		err := tx.Load("k")
		if err == nil {
			tx.Append(kv.Entry{Key: "k", Value: []byte("2"), Version: 1})
		}
		return err
	})
	if !errors.Is(err, kv.ErrUnavailable) {
		t.Errorf("a second version 1: %v, want an error", err)
	}
}

// TestBatchSizes appends batches of every size around the fixed statement lengths.
func TestBatchSizes(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	for _, n := range []int{1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200} {
		keys := make([]string, n)
		for i := range keys {
			keys[i] = "batch/" + strconv.Itoa(n) + "/" + strconv.Itoa(i)
		}
		for version := int64(1); version <= 2; version++ {
			err := db.Update(t.Context(), func(tx *database.Tx) error {
				if err := tx.Load(keys...); err != nil {
					return err
				}
				for _, key := range keys {
					if head, err := tx.Head(key); err != nil || head.Version != version-1 {
						t.Errorf("%d keys, version %d: the head of %s is %+v, %v", n, version, key, head, err)
					}
					tx.Append(kv.Entry{Key: key, Value: []byte("1")})
				}
				return nil
			})
			if err != nil {
				t.Fatalf("%d keys: %v", n, err)
			}
		}
		for _, key := range keys {
			if entry, err := db.Latest(t.Context(), key); err != nil || entry.Version != 2 {
				t.Fatalf("Latest(%s) = %v, %v", key, entry, err)
			}
		}
	}
}

func TestModelsMatchSchema(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	if drift := db.SchemaDrift(t); len(drift) > 0 {
		t.Errorf("the models ask for changes of a new file:\n%s", strings.Join(drift, "\n"))
	}
}
