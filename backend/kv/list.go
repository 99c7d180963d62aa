package kv

import "strings"

// A HistoryRequest asks for a page of a key's history. The zero value asks for the newest
// versions.
type HistoryRequest struct {
	// Before and After bound the versions, both exclusively; 0 is no bound.
	Before, After int64
	// Oldest asks for the oldest versions within the bounds instead of the newest.
	Oldest bool
	// Limit bounds the versions of a page.
	Limit int
	// MaxBytes bounds the bytes of the values and texts of a page, which has at least one
	// version if there is one.
	MaxBytes int64
	// Values asks for the values too.
	Values bool
}

// A HistoryItem is one version in a history, perhaps a tombstone or destroyed. Its Value is
// nil unless it was asked for.
type HistoryItem struct {
	Entry
	// Bytes is the size of the value.
	Bytes int64
}

// A History is a page of the versions of a key, from one snapshot.
type History struct {
	Key string
	// Versions are the newest first.
	Versions []HistoryItem
	// NextBefore is the Before of the next page, of older versions, 0 if there is none.
	NextBefore int64
	// PreviousAfter is the After of the previous page, of newer versions, to be asked for with
	// Oldest; nil if there is none.
	PreviousAfter *int64
	// TotalVersions counts the versions in the whole history that are not destroyed.
	TotalVersions int64
}

// A KeysRequest says which keys to list.
type KeysRequest struct {
	// Prefix is that of every listed key.
	Prefix string
	// Within, if not nil, leaves all other keys out, also from the folded prefixes.
	Within Prefixes
	// Delimiter, if not empty, folds the keys that have it after Prefix: the text up to and
	// with its first occurrence is listed once in their place.
	Delimiter string
	// After is the key after which the page begins. If it is a folded prefix, the page begins
	// after all keys that have it.
	After string
	// Limit bounds the keys and folded prefixes of a page together.
	Limit int
	// Deleted asks for keys that are deleted or have expired too.
	Deleted bool
}

// A KeyItem is a key with its latest version.
type KeyItem struct {
	// Latest has no value.
	Latest Entry
	// Bytes is the size of the value.
	Bytes int64
	// Deleted means that the key was deleted or has expired.
	Deleted bool
}

// A KeysPage is a page of the list of keys, from one snapshot.
type KeysPage struct {
	// Keys are in the order of their bytes.
	Keys []KeyItem
	// Prefixes stand for folded keys, in the order of their bytes.
	Prefixes []string
	// NextAfter is the After of the next page, "" if this is the last.
	NextAfter string
	// Revision is that of the last write that the page shows. A change feed from there on has
	// every later one.
	Revision int64
}

// Ranges returns the prefixes of the keys to list, in the order of their bytes.
func (r KeysRequest) Ranges() Prefixes {
	if r.Within == nil {
		return Prefixes{r.Prefix}
	}
	return r.Within.Under(r.Prefix)
}

// Fold returns the folded prefix that stands for key, and whether it is folded.
func (r KeysRequest) Fold(key string) (folded string, ok bool) {
	rest, ok := strings.CutPrefix(key, r.Prefix)
	if !ok || r.Delimiter == "" {
		return "", false
	}
	i := strings.Index(rest, r.Delimiter)
	if i < 0 {
		return "", false
	}
	return key[:len(r.Prefix)+i+len(r.Delimiter)], true
}
