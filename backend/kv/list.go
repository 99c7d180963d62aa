package kv

import "strings"

// A HistoryRequest says which part of a key's history is wanted. Its zero value is
// the newest versions.
type HistoryRequest struct {
	// Before and After bound the versions, both exclusively; 0 is no bound.
	Before, After int64
	// Oldest takes the oldest versions within the bounds in place of the newest.
	Oldest bool
	// Limit is how many versions a page has at most.
	Limit int
	// MaxBytes ends a page early, when the values and texts in it have as many bytes.
	// A page has at least one version if there is one.
	MaxBytes int64
	// Values asks for the values too.
	Values bool
}

// A HistoryItem is one version in a history. It may be a tombstone or destroyed; its
// Value is nil unless it was asked for.
type HistoryItem struct {
	Entry
	// Bytes is the size of the value.
	Bytes int64
}

// A History is a page of the versions of a key, as they were at one moment.
type History struct {
	Key string
	// Versions are the newest first.
	Versions []HistoryItem
	// NextBefore is the Before of the page with the next older versions within the
	// bounds, 0 when there is none.
	NextBefore int64
	// PreviousAfter is the After of the page (with Oldest) that has the next newer
	// versions, nil when there is none.
	PreviousAfter *int64
	// TotalVersions counts the versions in the whole history that are not destroyed.
	TotalVersions int64
}

// A KeysRequest says which keys to list.
type KeysRequest struct {
	// Prefix is that of every listed key.
	Prefix string
	// Within, when not nil, leaves all other keys out, from the folded prefixes too.
	Within Prefixes
	// Delimiter, when not empty, folds the keys that have it behind Prefix: in place
	// of them the text up to its first occurrence is listed, once.
	Delimiter string
	// After is where the page begins: behind this key. When it is a folded prefix,
	// behind all keys that have it.
	After string
	// Limit is how many keys and folded prefixes together a page has at most.
	Limit int
	// Deleted lists keys that are deleted or have expired too.
	Deleted bool
}

// A KeyItem is a key and what its latest version is.
type KeyItem struct {
	// Latest is without its value.
	Latest Entry
	// Bytes is the size of the value.
	Bytes int64
	// Deleted: the key does not exist; it was deleted or has expired.
	Deleted bool
}

// A KeysPage is a part of the list of keys, as it was at one moment.
type KeysPage struct {
	// Keys are in the order of their bytes.
	Keys []KeyItem
	// Prefixes are those that stand for folded keys, in the order of their bytes.
	Prefixes []string
	// NextAfter is the After of the next page, "" when this is the last.
	NextAfter string
	// Revision is that of the last write which the page shows. A change feed from
	// there on has every write that it does not.
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
