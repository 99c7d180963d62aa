package database_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
)

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
