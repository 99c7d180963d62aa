package database_test

import (
	"database/sql"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
)

// manyKeys is what a store of a test that checks plans has.
const manyKeys = 120_000

func list(t testing.TB, db *database.DB, r kv.KeysRequest, now kv.Timestamp) kv.KeysPage {
	t.Helper()
	if r.Limit == 0 {
		r.Limit = 100
	}
	page, err := db.Keys(t.Context(), r, now)
	if err != nil {
		t.Fatalf("%+v: %v", r, err)
	}
	return page
}

func names(page kv.KeysPage) []string {
	keys := []string{}
	for _, item := range page.Keys {
		keys = append(keys, item.Latest.Key)
	}
	return keys
}

func TestKeysItems(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	databasetest.Write(t, db,
		kv.Entry{Key: "a", Value: []byte("1")},
		kv.Entry{Key: "a", Value: []byte{0, 255}, ContentType: "image/png", Author: "ann", Expires: 60},
		kv.Entry{Key: "b", Value: []byte("12345"), Expires: 50},
		kv.Entry{Key: "c", Value: []byte("1")},
		kv.Entry{Key: "c", Operation: kv.OpDelete},
	)
	a := kv.KeyItem{Bytes: 2, Latest: kv.Entry{Key: "a", Version: 2, Revision: 2, Time: 2, Operation: kv.OpPut, ContentType: "image/png", Author: "ann", Expires: 60}}
	b := kv.KeyItem{Bytes: 5, Latest: kv.Entry{Key: "b", Version: 1, Revision: 3, Time: 3, Operation: kv.OpPut, Expires: 50}}
	c := kv.KeyItem{Deleted: true, Latest: kv.Entry{Key: "c", Version: 2, Revision: 5, Time: 5, Operation: kv.OpDelete}}
	if diff := cmp.Diff(kv.KeysPage{Keys: []kv.KeyItem{a, b}, Revision: 5}, list(t, db, kv.KeysRequest{}, 49)); diff != "" {
		t.Error(diff)
	}
	b.Deleted = true
	if diff := cmp.Diff(kv.KeysPage{Keys: []kv.KeyItem{a}, Revision: 5}, list(t, db, kv.KeysRequest{}, 50)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(kv.KeysPage{Keys: []kv.KeyItem{a, b, c}, Revision: 5}, list(t, db, kv.KeysRequest{Deleted: true}, 50)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(kv.KeysPage{}, list(t, databasetest.Open(t, databasetest.URL(t)), kv.KeysRequest{}, 1)); diff != "" {
		t.Error("an empty store:", diff)
	}
}

// pieces make keys that are hard to order: every length of UTF-8, both sides of the
// surrogates, the last character, delimiters, and what patterns and paths treat
// apart.
var pieces = []string{
	" ", "/", "//", "%", "_", "~", "*", "A", "a", "ab", "b", "ß", "é", "e\u0301", "\u07ff", "\u0800", "ж", "א", "م", "ह", "日本", "한",
	"\ud7ff", "\ue000", "\ufffd", "\uffff", "\U00010000", "😀", "👩‍👩‍👧", "\U0010ffff", "\u0080", "\u2028", "'", "\"", "\\", "..", "-",
}

func randomKey(random *rand.Rand) string {
	var key strings.Builder
	for range 1 + random.IntN(4) {
		key.WriteString(pieces[random.IntN(len(pieces))])
	}
	return key.String()
}

// model is what a page must be, by looking at every key in order.
func model(keys []string, deleted map[string]bool, r kv.KeysRequest) (page kv.KeysPage) {
	last := ""
	for _, key := range keys {
		if !strings.HasPrefix(key, r.Prefix) || key <= r.After || deleted[key] && !r.Deleted {
			continue
		}
		folded, ok := r.Fold(key)
		if ok && (folded == last || folded == r.After) {
			continue
		}
		if len(page.Keys)+len(page.Prefixes) == r.Limit {
			page.NextAfter = last
			return page
		}
		if ok {
			last = folded
			page.Prefixes = append(page.Prefixes, folded)
		} else {
			last = key
			page.Keys = append(page.Keys, kv.KeyItem{Latest: kv.Entry{Key: key}, Deleted: deleted[key]})
		}
	}
	return page
}

func TestKeysAgainstModel(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	random := rand.New(rand.NewPCG(1, 2))
	deleted := map[string]bool{}
	keys := []string{strings.Repeat("\U0010ffff", kv.MaxKeyBytes/4)}
	for range 1500 {
		keys = append(keys, randomKey(random))
	}
	slices.Sort(keys) // Go compares bytes
	keys = slices.Compact(keys)
	for _, i := range random.Perm(len(keys)) {
		entry := kv.Entry{Key: keys[i], Value: []byte("1")}
		switch random.IntN(6) {
		case 0:
			entry.Operation, deleted[keys[i]] = kv.OpDelete, true
		case 1:
			entry.Expires, deleted[keys[i]] = 1000, true
		case 2:
			entry.Expires = 1001
		}
		databasetest.Write(t, db, entry)
	}
	delimiters := append([]string{"", "/", "/", "~", "//", "a", "日"}, pieces...)
	for range 3000 {
		r := kv.KeysRequest{Limit: 1 + random.IntN(20), Deleted: random.IntN(2) == 0, Delimiter: delimiters[random.IntN(len(delimiters))]}
		if random.IntN(3) > 0 {
			r.Prefix = pieces[random.IntN(len(pieces))]
		}
		if random.IntN(2) == 0 {
			r.After = r.Prefix + randomKey(random)
		}
		want, got := model(keys, deleted, r), list(t, db, r, 1000)
		if diff := cmp.Diff(names(want), names(got)); diff != "" {
			t.Fatalf("%+v: keys %s", r, diff)
		}
		if diff := cmp.Diff(want.Prefixes, got.Prefixes); diff != "" || want.NextAfter != got.NextAfter {
			t.Fatalf("%+v: next_after %q, want %q, prefixes %s", r, got.NextAfter, want.NextAfter, diff)
		}
		for i, item := range got.Keys {
			if item.Deleted != want.Keys[i].Deleted {
				t.Fatalf("%q: deleted is %t", item.Latest.Key, item.Deleted)
			}
		}
	}
}

// TestKeysPlan lists a store whose first keys are nearly all deleted and whose others
// lie in few folders, and holds that a page takes a statement for each folder and one
// more, and each an index.
func TestKeysPlan(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	entries := make([]kv.Entry, manyKeys)
	for i := range entries {
		entries[i] = kv.Entry{Key: fmt.Sprintf("a/%07d", i), Operation: kv.OpDelete}
		if i >= manyKeys/2 {
			entries[i] = kv.Entry{Key: fmt.Sprintf("b/%d/%07d", i%3, i), Value: []byte("1")}
		}
	}
	databasetest.Write(t, db, entries...)
	for _, test := range []struct {
		request             kv.KeysRequest
		keys, folders, more int
		index               string
	}{
		{kv.KeysRequest{}, 100, 0, 1, "keys_live (key>?"},
		{kv.KeysRequest{Deleted: true}, 100, 0, 1, "keys_key (key>?"},
		{kv.KeysRequest{Prefix: "b/1/", After: "b/1/0080000"}, 100, 0, 1, "keys_live (key>?"},
		{kv.KeysRequest{Delimiter: "/"}, 0, 1, 0, "keys_live"},
		{kv.KeysRequest{Delimiter: "/", Deleted: true}, 0, 2, 0, "keys_key"},
		{kv.KeysRequest{Delimiter: "/", Prefix: "b/"}, 0, 3, 0, "keys_live"},
		{kv.KeysRequest{Delimiter: "/", Prefix: "b/", After: "b/1/"}, 0, 1, 0, "keys_live"},
	} {
		var page kv.KeysPage
		statements := db.Statements(t, func() { page = list(t, db, test.request, 1) })
		if len(page.Keys) != test.keys || len(page.Prefixes) != test.folders || (page.NextAfter != "") != (test.more == 1) {
			t.Errorf("%+v: %d keys, folders %q, next_after %q", test.request, len(page.Keys), page.Prefixes, page.NextAfter)
		}
		if want := 2 + test.folders; len(statements) != want { // that of the revision, and the last search
			t.Errorf("%+v takes %d statements, want %d", test.request, len(statements), want)
		}
		wantPlans(t, statements)
		wantIndex(t, statements, test.index)
	}
}

// TestSmallFoldersAreRead: a page of folders that have few keys takes few statements, and
// one of many keys a search for each.
func TestSmallFoldersAreRead(t *testing.T) {
	for _, c := range []struct{ folders, keys, statements int }{{1000, 1, 4}, {300, 5, 4}, {30, 100, 40}} {
		db := databasetest.Open(t, databasetest.URL(t))
		var entries []kv.Entry
		for i := range c.folders * c.keys {
			entries = append(entries, kv.Entry{Key: fmt.Sprintf("%04d/%d", i/c.keys, i), Value: []byte("1")})
		}
		databasetest.Write(t, db, entries...)
		var page kv.KeysPage
		statements := db.Statements(t, func() { page = list(t, db, kv.KeysRequest{Delimiter: "/", Limit: 1000}, 1) })
		if len(page.Prefixes) != c.folders || len(page.Keys) != 0 || page.NextAfter != "" {
			t.Errorf("%d folders of %d: %d folders, %d keys", c.folders, c.keys, len(page.Prefixes), len(page.Keys))
		}
		if len(statements) > c.statements {
			t.Errorf("%d folders of %d: %d statements, want at most %d", c.folders, c.keys, len(statements), c.statements)
		}
	}
}

// TestExpiredAreSkippedInTheIndex: a key that has expired, and has no tombstone yet, costs a
// list one step in an index and no look into a table.
func TestExpiredAreSkippedInTheIndex(t *testing.T) {
	url := databasetest.FileURL(t)
	db := databasetest.Open(t, url)
	entries := make([]kv.Entry, 50_000)
	for i := range entries {
		entries[i] = kv.Entry{Key: fmt.Sprintf("a/%07d", i), Value: []byte("1"), Expires: 50}
	}
	for i := range 5 {
		entries[len(entries)-1-i].Expires = 0
	}
	databasetest.Write(t, db, entries...)
	other, err := sql.Open("sqlite3", strings.TrimPrefix(url, "sqlite:"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	least := func(fn func()) time.Duration {
		least := time.Hour
		for range 9 {
			began := time.Now()
			fn()
			least = min(least, time.Since(began))
		}
		return least
	}
	listed := least(func() {
		if page := list(t, db, kv.KeysRequest{Limit: 10}, 60); len(page.Keys) != 5 || page.NextAfter != "" {
			t.Fatalf("%+v", page)
		}
	})
	scanned := least(func() {
		var n int
		if err := other.QueryRow("SELECT count(*) FROM keys INDEXED BY keys_live WHERE NOT deleted").Scan(&n); err != nil || n != len(entries) {
			t.Fatal(n, err)
		}
	})
	t.Logf("a list beside %d expired keys: %s, a look at each in the index: %s", len(entries), listed, scanned)
	if listed > 4*scanned {
		t.Errorf("a list takes %s, a look at each key in the index %s", listed, scanned)
	}
}

// TestPutOfAnExistingKeyWritesFewPages compares what commits append to the write-ahead
// log, for a store that has many keys: a further version of a key that stays alive
// must not touch the index of the living.
func TestPutOfAnExistingKeyWritesFewPages(t *testing.T) {
	url := databasetest.FileURL(t)
	db := databasetest.Open(t, url)
	entries := make([]kv.Entry, 20_000)
	for i := range entries {
		entries[i] = kv.Entry{Key: fmt.Sprintf("%08d", i*7919%len(entries)), Value: []byte("1")}
	}
	databasetest.Write(t, db, entries...)
	pages := func(entry kv.Entry) int64 {
		if _, err := db.Scrub(t.Context()); err != nil { // empties the log
			t.Fatal(err)
		}
		databasetest.Write(t, db, entry)
		info, err := os.Stat(strings.TrimPrefix(url, "sqlite:") + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		const header, frame = 32, 24 + 4096
		return (info.Size() - header) / frame
	}
	// The leaves of keys, of versions and of its index, and the page of store.
	for i := range 20 {
		key := fmt.Sprintf("%08d", i*131)
		if n := pages(kv.Entry{Key: key, Value: []byte("2")}); n > 4 {
			t.Fatalf("a further version of %s writes %d pages, want at most 4", key, n)
		}
	}
	if n := pages(kv.Entry{Key: "00000077", Operation: kv.OpDelete}); n < 5 {
		t.Errorf("a tombstone writes %d pages, want one of keys_live among them", n)
	}
}

// Pages of keys within prefixes are those of all keys, without the others.
func TestKeysWithinPrefixes(t *testing.T) {
	db := databasetest.Open(t, databasetest.URL(t))
	random := rand.New(rand.NewPCG(1, 2))
	word := func(longest int) string {
		letters := []string{"a", "b", "/", "é"}
		var b strings.Builder
		for range 1 + random.IntN(longest) {
			b.WriteString(letters[random.IntN(len(letters))])
		}
		return b.String()
	}
	stored := map[string]bool{}
	for range 120 {
		stored[word(5)] = true
	}
	keys := slices.Sorted(maps.Keys(stored))
	entries := make([]kv.Entry, len(keys))
	for i, name := range keys {
		entries[i] = kv.Entry{Key: name, Value: []byte("1")}
	}
	databasetest.Write(t, db, entries...)
	for range 1500 {
		prefixes := make([]string, random.IntN(4))
		for i := range prefixes {
			prefixes[i] = word(3)
		}
		r := kv.KeysRequest{Within: kv.NewPrefixes(prefixes), Limit: 1 + random.IntN(7)}
		if random.IntN(2) == 0 {
			r.Prefix = word(2)
		}
		if random.IntN(2) == 0 {
			r.Delimiter = "/"
		}
		var want, got []string
		for _, name := range keys {
			if !strings.HasPrefix(name, r.Prefix) || !r.Within.Has(name) {
				continue
			}
			if folded, ok := r.Fold(name); ok {
				name = folded
			}
			if len(want) == 0 || want[len(want)-1] != name {
				want = append(want, name)
			}
		}
		for pages := 0; pages == 0 || r.After != ""; pages++ {
			page := list(t, db, r, 1)
			items := slices.Clone(page.Prefixes)
			for _, item := range page.Keys {
				items = append(items, item.Latest.Key)
			}
			slices.Sort(items)
			got = append(got, items...)
			if len(items) > r.Limit || page.NextAfter != "" && len(items) < r.Limit {
				t.Fatalf("%+v: a page of %d", r, len(items))
			}
			r.After = page.NextAfter
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(fmt.Sprintf("%+v: ", r), diff)
		}
	}
}
