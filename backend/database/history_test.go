package database_test

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
)

// manyVersions is what a key of a test that checks plans has.
const manyVersions = 100_000

func versionsOf(key string, n int) []kv.Entry {
	entries := make([]kv.Entry, n)
	for i := range entries {
		entries[i] = kv.Entry{Key: key, Value: []byte(strconv.Itoa(i + 1))}
	}
	return entries
}

func history(t *testing.T, db *database.DB, key string, r kv.HistoryRequest) kv.History {
	t.Helper()
	if r.Limit == 0 {
		r.Limit = 100
	}
	if r.MaxBytes == 0 {
		r.MaxBytes = math.MaxInt64
	}
	page, _, err := db.History(t.Context(), key, r)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func numbers(page kv.History) []int64 {
	list := []int64{}
	for _, item := range page.Versions {
		list = append(list, item.Version)
	}
	return list
}

func TestHistoryItems(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	databasetest.Write(t, db,
		kv.Entry{Key: "k", Value: []byte(`"one"`), Author: "ann"},
		kv.Entry{Key: "other", Value: []byte("0")},
		kv.Entry{Key: "k", Value: []byte{0, 255}, ContentType: "image/png", Expires: 99},
		kv.Entry{Key: "k", Operation: kv.OpDelete},
	)
	want := []kv.HistoryItem{
		{Entry: kv.Entry{Key: "k", Version: 3, Revision: 4, Time: 4, Operation: kv.OpDelete, Value: []byte{}}},
		{Bytes: 2, Entry: kv.Entry{Key: "k", Version: 2, Revision: 3, Time: 3, Operation: kv.OpPut, Value: []byte{0, 255}, ContentType: "image/png", Expires: 99}},
		{Bytes: 5, Entry: kv.Entry{Key: "k", Version: 1, Revision: 1, Time: 1, Operation: kv.OpPut, Value: []byte(`"one"`), Author: "ann"}},
	}
	page := history(t, db, "k", kv.HistoryRequest{Values: true})
	if diff := cmp.Diff(kv.History{Key: "k", Versions: want, TotalVersions: 3}, page); diff != "" {
		t.Error(diff)
	}
	for i := range want {
		want[i].Value = nil
	}
	page, revision, err := db.History(t.Context(), "k", kv.HistoryRequest{Limit: 9, MaxBytes: 1000})
	if diff := cmp.Diff(kv.History{Key: "k", Versions: want, TotalVersions: 3}, page); diff != "" || err != nil || revision != 4 {
		t.Error(diff, err, revision)
	}
	if _, _, err := db.History(t.Context(), "none", kv.HistoryRequest{Limit: 1}); !errors.Is(err, kv.ErrKeyNotFound) {
		t.Errorf("History of a missing key: %v, want ErrKeyNotFound", err)
	}
}

// TestHistoryPages checks each page of a history whose oldest versions were removed
// against what a list of the numbers says.
func TestHistoryPages(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	databasetest.Write(t, db, versionsOf("k", 12)...)
	const oldest, latest = 4, 12
	if _, err := db.Prune(t.Context(), []string{"k"}, database.Retention{MaxVersions: latest - oldest + 1}, 100); err != nil {
		t.Fatal(err)
	}
	bounds := []int64{0, 1, 2, 3, 4, 5, 8, 11, 12, 13, 14, 100, math.MaxInt64}
	for _, before := range bounds {
		for _, after := range bounds {
			for _, r := range []kv.HistoryRequest{
				{Before: before, After: after, Limit: 1}, {Before: before, After: after, Limit: 3}, {Before: before, After: after, Limit: 50},
				{After: after, Limit: 1, Oldest: true}, {After: after, Limit: 3, Oldest: true}, {After: after, Limit: 50, Oldest: true},
			} {
				if r.Before == 0 && r.After != 0 && !r.Oldest {
					continue // nobody asks for that
				}
				checkPage(t, r, history(t, db, "k", r), oldest, latest)
			}
		}
	}
}

func checkPage(t *testing.T, r kv.HistoryRequest, page kv.History, oldest, latest int64) {
	t.Helper()
	all := []int64{} // within the bounds, the newest first
	for version := latest; version >= oldest; version-- {
		if version > r.After && (r.Before == 0 || version < r.Before) {
			all = append(all, version)
		}
	}
	want := all[:min(len(all), r.Limit)]
	if r.Oldest {
		want = all[max(0, len(all)-r.Limit):]
	}
	if diff := cmp.Diff(want, numbers(page)); diff != "" {
		t.Errorf("%+v: %s", r, diff)
	}
	older, newer := int64(0), int64(0) // those that the page leaves out
	for version := oldest; version <= latest; version++ {
		switch {
		case len(want) > 0 && version < want[len(want)-1] && (r.Oldest || version > r.After),
			len(want) == 0 && r.Oldest && version <= r.After:
			older = version
		case newer == 0 && (len(want) > 0 && version > want[0] || len(want) == 0 && r.Before != 0 && version >= r.Before):
			newer = version
		}
	}
	if (older != 0) != (page.NextBefore != 0) || older != 0 && page.NextBefore <= older {
		t.Errorf("%+v: next_before is %d, the next older version %d", r, page.NextBefore, older)
	}
	if (newer != 0) != (page.PreviousAfter != nil) || newer != 0 && *page.PreviousAfter >= newer {
		t.Errorf("%+v: previous_after is %v, the next newer version %d", r, page.PreviousAfter, newer)
	}
}

func TestHistoryBytes(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	for range 7 {
		databasetest.Write(t, db, kv.Entry{Key: "k", Value: []byte(strings.Repeat("1", 1000))})
	}
	for _, test := range []struct {
		bytes int64
		want  []int64
	}{
		{1, []int64{7}}, {1001, []int64{7}}, {3002, []int64{7, 6}}, {3003, []int64{7, 6, 5}},
	} {
		page := history(t, db, "k", kv.HistoryRequest{Values: true, MaxBytes: test.bytes})
		if diff := cmp.Diff(test.want, numbers(page)); diff != "" || page.NextBefore != test.want[len(test.want)-1] {
			t.Errorf("%d bytes: next_before %d, %s", test.bytes, page.NextBefore, diff)
		}
	}
	page := history(t, db, "k", kv.HistoryRequest{Values: true, MaxBytes: 2002, Oldest: true, After: 2})
	if diff := cmp.Diff([]int64{4, 3}, numbers(page)); diff != "" || page.NextBefore != 3 || *page.PreviousAfter != 4 {
		t.Errorf("%+v: %s", page, diff)
	}
}

// TestHistoryPlan walks a long history to its end and back, and holds that each page
// takes the same statements, which find their rows by index.
func TestHistoryPlan(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	databasetest.Write(t, db, versionsOf("k", manyVersions)...)
	next := int64(manyVersions)
	for request := (kv.HistoryRequest{Limit: 1000}); ; {
		page := history(t, db, "k", request)
		for _, item := range page.Versions {
			if item.Version != next {
				t.Fatalf("version %d in the place of %d", item.Version, next)
			}
			next--
		}
		if page.NextBefore == 0 {
			break
		}
		request.Before = page.NextBefore
	}
	if next != 0 {
		t.Fatalf("the walk ended before version %d", next)
	}
	for request := (kv.HistoryRequest{Limit: 1000, Oldest: true}); ; {
		page := history(t, db, "k", request)
		for i := range page.Versions {
			if next++; page.Versions[len(page.Versions)-1-i].Version != next {
				t.Fatalf("%v in the place of %d", page.Versions[len(page.Versions)-1-i], next)
			}
		}
		if page.PreviousAfter == nil {
			break
		}
		request.After = *page.PreviousAfter
	}
	if next != manyVersions {
		t.Fatalf("the walk back ended at version %d", next)
	}
	for _, request := range []kv.HistoryRequest{{}, {Before: 50_000}, {After: 50_000, Oldest: true}, {Before: 60_000, After: 50_000, Values: true}} {
		statements := db.Statements(t, func() { history(t, db, "k", request) })
		if len(statements) != 2 {
			t.Errorf("%+v takes %d statements, want 2: %v", request, len(statements), statements)
		}
		wantPlans(t, statements)
		wantIndex(t, statements, "INDEX versions_key_version (key_id=? AND version>? AND version<?)")
	}
}
