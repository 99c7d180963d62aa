package database_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
)

// TestEvents: the versions behind one revision and up to another, of a prefix that
// is compared byte for byte, and what is missing.
func TestEvents(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	for i, key := range []string{"a", "a/x", "A/x", "a/é", "a%x", "a_x", "a/x", "日本", "日"} {
		put(t, db, key, strconv.Itoa(i+1))
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
		page, err := db.Events(t.Context(), test.prefix, test.after, test.last)
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
		if diff := cmp.Diff(test.want, got); diff != "" || page.Through != test.last || page.Compacted != 0 {
			t.Errorf("%q from %d to %d: through %d, compacted %d, %s", test.prefix, test.after, test.last, page.Through, page.Compacted, diff)
		}
	}
	if _, err := db.Prune(t.Context(), "a/x", database.Retention{MaxVersions: 1}, 10); err != nil {
		t.Fatal(err)
	}
	if page, err := db.Events(t.Context(), "a/x", 0, 9); err != nil || page.Compacted != 2 || len(page.Entries) != 1 {
		t.Errorf("after retention: %+v, %v", page, err)
	}
}

// TestEventsPages: a page ends at its bound of bytes and goes on where it ended.
func TestEventsPages(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	large := strconv.Quote(strings.Repeat("x", 600_000))
	for range 3 {
		put(t, db, "k", large)
		put(t, db, "other", "1")
	}
	var revisions []int64
	pages := 0
	for after := int64(0); after < 6; pages++ {
		page, err := db.Events(t.Context(), "k", after, 6)
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
