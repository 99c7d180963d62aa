package kv_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/kv"
)

func TestPrefixes(t *testing.T) {
	for _, c := range []struct {
		prefixes []string
		set      kv.Prefixes
		common   string
	}{
		{nil, kv.Prefixes{}, ""},
		{[]string{"a"}, kv.Prefixes{"a"}, "a"},
		{[]string{"a/b", "a", "a/", "b", "a"}, kv.Prefixes{"a", "b"}, ""},
		{[]string{"app/x", "app/y/z", "app/y"}, kv.Prefixes{"app/x", "app/y"}, "app/"},
		{[]string{"x", ""}, kv.AllKeys(), ""},
		{[]string{"é", "è"}, kv.Prefixes{"è", "é"}, ""}, // they share a byte and no character
	} {
		set := kv.NewPrefixes(c.prefixes)
		if diff := cmp.Diff(c.set, set); diff != "" {
			t.Errorf("%q: %s", c.prefixes, diff)
		}
		if got := set.Common(); got != c.common {
			t.Errorf("%q: common %q, want %q", c.prefixes, got, c.common)
		}
	}
}

// Against the plain definition, with keys and prefixes of few letters.
func TestPrefixesAtRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	word := func() string {
		letters := []string{"a", "b", "/", "é", "è", "\U0010FFFF", " "}
		var b strings.Builder
		for range random.IntN(5) {
			b.WriteString(letters[random.IntN(len(letters))])
		}
		return b.String()
	}
	for range 20_000 {
		prefixes := make([]string, random.IntN(5))
		for i := range prefixes {
			prefixes[i] = word()
		}
		begins := func(key string) bool {
			return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key, p) })
		}
		set, key, under := kv.NewPrefixes(prefixes), word(), word()
		if set.Has(key) != begins(key) {
			t.Fatalf("%q has %q: %t", prefixes, key, set.Has(key))
		}
		part := set.Under(under)
		if part.Has(key) != (begins(key) && strings.HasPrefix(key, under)) {
			t.Fatalf("%q under %q has %q: %t", prefixes, under, key, part.Has(key))
		}
		if !slices.IsSorted(part) {
			t.Fatalf("%q is not in order", part)
		}
		if common := set.Common(); set.Has(key) && !strings.HasPrefix(key, common) || !utf8.ValidString(common) {
			t.Fatalf("%q: common %q, and %q", prefixes, common, key)
		}
	}
}
