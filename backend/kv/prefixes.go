package kv

import (
	"slices"
	"sort"
	"strings"
)

// Prefixes is a set of keys: those that begin with one of them. No one begins with
// another, and they are in the order of their bytes. The empty set has no keys; the one
// that has all is AllKeys.
type Prefixes []string

// AllKeys has every key.
func AllKeys() Prefixes { return Prefixes{""} }

// NewPrefixes returns the set of the keys that begin with one of prefixes.
func NewPrefixes(prefixes []string) Prefixes {
	sorted := slices.Sorted(slices.Values(prefixes))
	set := Prefixes{}
	for _, prefix := range sorted {
		if last := len(set) - 1; last < 0 || !strings.HasPrefix(prefix, set[last]) {
			set = append(set, prefix)
		}
	}
	return set
}

// Has reports whether key is in the set.
func (p Prefixes) Has(key string) bool {
	if len(p) == 1 {
		return strings.HasPrefix(key, p[0])
	}
	// Of the prefixes up to key, the last one is the only candidate: another that key
	// begins with would begin that one too.
	i := sort.Search(len(p), func(i int) bool { return p[i] > key })
	return i > 0 && strings.HasPrefix(key, p[i-1])
}

// Under returns the part of the set whose keys begin with prefix.
func (p Prefixes) Under(prefix string) Prefixes {
	part := Prefixes{}
	for _, own := range p {
		switch {
		case strings.HasPrefix(prefix, own):
			return Prefixes{prefix}
		case strings.HasPrefix(own, prefix):
			part = append(part, own)
		}
	}
	return part
}

// Ranges returns the prefixes of the keys to list, in the order of their bytes.
func (r KeysRequest) Ranges() Prefixes {
	if r.Within == nil {
		return Prefixes{r.Prefix}
	}
	return r.Within.Under(r.Prefix)
}

// Common returns the longest text that all keys of the set begin with.
func (p Prefixes) Common() string {
	if len(p) == 0 {
		return ""
	}
	first, last := p[0], p[len(p)-1] // those between them have it too
	n := 0
	for n < len(first) && n < len(last) && first[n] == last[n] {
		n++
	}
	return strings.ToValidUTF8(first[:n], "")
}
