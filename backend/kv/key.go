package kv

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"
)

// MaxKeyBytes is the length of the longest key.
const MaxKeyBytes = 512

// CheckKey returns an error that wraps ErrInvalidKey and says what is wrong
// unless key is 1 to MaxKeyBytes bytes of UTF-8 without a control character
// (U+0000 to U+001F, U+007F). Everything else is allowed and opaque.
func CheckKey(key string) error { return check("key", key) }

// CheckPrefix is CheckKey for the beginning of a key, which may be empty.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return check("prefix", prefix)
}

func check(field, text string) error {
	switch {
	case text == "":
		return &Error{ErrInvalidKey, field, "must not be empty"}
	case len(text) > MaxKeyBytes:
		return &Error{ErrInvalidKey, field, fmt.Sprintf("has %d bytes, the limit is %d", len(text), MaxKeyBytes)}
	case !utf8.ValidString(text):
		return &Error{ErrInvalidKey, field, "is not valid UTF-8 after percent-decoding"}
	}
	for i := range len(text) {
		if c := text[i]; c < 0x20 || c == 0x7f {
			return &Error{ErrInvalidKey, field, fmt.Sprintf("has the control character U+%04X at byte %d", c, i)}
		}
	}
	return nil
}

// Prefixes are a set of keys: those that begin with one of the prefixes. None of them begins
// with another, and they are in the order of their bytes. AllKeys has every key, and an empty
// set none.
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
	// Only the last prefix up to key can match: any other that key begins with would also be
	// a prefix of that one.
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

// Common returns the longest text that all keys of the set begin with.
func (p Prefixes) Common() string {
	if len(p) == 0 {
		return ""
	}
	first, last := p[0], p[len(p)-1] // those in between share what these share
	n := 0
	for n < len(first) && n < len(last) && first[n] == last[n] {
		n++
	}
	return strings.ToValidUTF8(first[:n], "")
}

// PrefixEnd returns the least text after every text with that prefix, in the order of bytes,
// and whether there is one. Both are UTF-8.
func PrefixEnd(prefix string) (end string, ok bool) {
	for prefix != "" {
		last, size := utf8.DecodeLastRuneInString(prefix)
		prefix = prefix[:len(prefix)-size]
		switch last { // the order of bytes is that of code points
		case utf8.MaxRune:
			continue // the character before it must grow
		case 0xd7ff:
			last = 0xe000 // between them are the surrogates, which no text has
		default:
			last++
		}
		return prefix + string(last), true
	}
	return "", false
}
