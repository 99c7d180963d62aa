package database_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
)

// TestEvents: the versions behind one revision and up to another, of a prefix that
// is compared byte for byte, and what is missing.
func TestEvents(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	for i, key := range []string{"a", "a/x", "A/x", "a/é", "a%x", "a_x", "a/x", "日本", "日"} {
		databasetest.Put(t, db, key, strconv.Itoa(i+1))
	}
	for _, test := range []struct {
		prefix      string
		after, last int64
		want        []int64
	}{
		{"", 0, 9, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9}},
		{"", 3, 5, []int64{4, 5}},
		{"", 9, 9, nil},
		{"a", 0, 9, []int64{1, 2, 4, 5, 6, 7}},
		{"a/", 2, 9, []int64{4, 7}},
		{"a/é", 0, 9, []int64{4}},
		{"A", 0, 9, []int64{3}},
		{"%", 0, 9, nil},
		{"日", 0, 9, []int64{8, 9}},
		{"日本", 0, 9, []int64{8}},
	} {
		page, err := db.Events(t.Context(), database.EventsRequest{
			Keys: kv.Prefixes{test.prefix}, After: test.after, Last: test.last, Values: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, entry := range page.Entries {
			got = append(got, entry.Revision)
			if string(entry.Value) != strconv.FormatInt(entry.Revision, 10) || !strings.HasPrefix(entry.Key, test.prefix) {
				t.Errorf("%q: %+v", test.prefix, entry)
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" || page.Through != test.last || page.Gone != 0 {
			t.Errorf("%q from %d to %d: through %d, gone %d, %s", test.prefix, test.after, test.last, page.Through, page.Gone, diff)
		}
	}
	page, err := db.Events(t.Context(), database.EventsRequest{Keys: kv.AllKeys(), Last: 9})
	if err != nil || len(page.Entries) != 9 || len(page.Entries[0].Value) > 0 {
		t.Errorf("without values: %+v, %v", page, err)
	}
}

// TestEventsGone: what is missing is told for the keys that it is missing of.
func TestEventsGone(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	for i, key := range []string{"hot", "quiet/a", "quiet/b", "hot", "hot/x", "hot", "gone", "hot", "hot/x"} {
		databasetest.Put(t, db, key, strconv.Itoa(i+1))
	}
	want := func(prefixes kv.Prefixes, after, known, last, gone int64, held ...int64) {
		t.Helper()
		page, err := db.Events(t.Context(), database.EventsRequest{Keys: prefixes, After: after, Known: known, Last: last})
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, entry := range page.Entries {
			got = append(got, entry.Revision)
		}
		if diff := cmp.Diff(held, got); diff != "" || page.Gone != gone {
			t.Errorf("%q behind %d, %d known, up to %d: gone %d, want %d; %s", prefixes, after, known, last, page.Gone, gone, diff)
		}
	}
	want(kv.AllKeys(), 0, 0, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	for _, key := range []string{"hot", "hot/x"} { // keep 8 and 9
		if _, err := db.Prune(t.Context(), []string{key}, database.Retention{MaxVersions: 1}, 10); err != nil {
			t.Fatal(err)
		}
	}
	want(kv.AllKeys(), 0, 0, 9, 6, 2, 3, 7, 8, 9)
	want(kv.AllKeys(), 0, 0, 4, 4, 2, 3)
	want(kv.AllKeys(), 5, 0, 9, 6, 7, 8, 9)
	want(kv.AllKeys(), 6, 0, 9, 0, 7, 8, 9)
	want(kv.AllKeys(), 0, 6, 9, 0, 2, 3, 7, 8, 9)
	want(kv.Prefixes{"quiet/"}, 0, 0, 9, 0, 2, 3)
	want(kv.Prefixes{"hot/"}, 0, 0, 9, 5, 9)
	want(kv.Prefixes{"hot/x", "quiet/b"}, 2, 0, 9, 5, 3, 9)
	want(kv.Prefixes{"gone", "quiet/"}, 0, 0, 9, 0, 2, 3, 7)
	if err := db.Update(t.Context(), func(tx *database.Tx) error {
		if err := tx.Load("gone"); err != nil {
			return err
		}
		head, err := tx.Head("gone")
		if err == nil {
			_, err = tx.Erase("gone", head.Version)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	want(kv.Prefixes{"quiet/"}, 0, 0, 9, 7, 2, 3) // the name is forgotten: it might have been one of these
	want(kv.Prefixes{"quiet/"}, 7, 0, 9, 0)
	want(kv.Prefixes{"hot/"}, 0, 0, 9, 7, 9)
}

// TestEventsGoneOfMany: the search for what is missing has an end, and is exact while
// either the keys that lack something or those of the prefix are few.
func TestEventsGoneOfMany(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	const many = database.GoneKeys + 10
	var entries []kv.Entry
	for version := range 2 {
		for i := range many {
			entries = append(entries, kv.Entry{Key: fmt.Sprintf("hot/%05d", i), Value: []byte(strconv.Itoa(version))})
		}
		for i := range many {
			if version == 0 {
				entries = append(entries, kv.Entry{Key: fmt.Sprintf("wide/%05d", i), Value: []byte("1")})
			}
		}
		entries = append(entries, kv.Entry{Key: "quiet/a", Value: []byte("1")})
	}
	databasetest.Write(t, db, entries...)
	if err := db.Update(t.Context(), func(tx *database.Tx) error {
		for i := range many {
			if err := tx.Prune(fmt.Sprintf("hot/%05d", i)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		prefix string
		after  int64
		most   int64 // is gone
		exact  bool
	}{
		{"", 0, many, true}, {"hot/", 0, many, true}, {"hot/00000", 0, 1, true}, {"quiet/", 0, 0, true},
		{"quiet/", 1000, 0, true}, {"wide/", 1000, 0, true}, {"wide/", 0, many, false},
	} {
		page, err := db.Events(t.Context(), database.EventsRequest{Keys: kv.Prefixes{test.prefix}, After: test.after, Last: 3*many + 2})
		if err != nil || test.exact && page.Gone != test.most || page.Gone > test.most {
			t.Errorf("%q behind %d: %d are gone, %v, want %d", test.prefix, test.after, page.Gone, err, test.most)
		}
	}
}

// TestEventsPages: a page ends at its bound of bytes and goes on where it ended.
func TestEventsPages(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	large := strconv.Quote(strings.Repeat("x", 600_000))
	for range 3 {
		databasetest.Put(t, db, "k", large)
		databasetest.Put(t, db, "other", "1")
	}
	var revisions []int64
	pages := 0
	for after := int64(0); after < 6; pages++ {
		page, err := db.Events(t.Context(), database.EventsRequest{Keys: kv.Prefixes{"k"}, After: after, Last: 6, Values: true})
		if err != nil || page.Through <= after {
			t.Fatalf("from %d: through %d, %v", after, page.Through, err)
		}
		for _, entry := range page.Entries {
			revisions = append(revisions, entry.Revision)
		}
		after = page.Through
	}
	if diff := cmp.Diff([]int64{1, 3, 5}, revisions); diff != "" || pages != 2 {
		t.Errorf("%d pages: %s", pages, diff)
	}
}
