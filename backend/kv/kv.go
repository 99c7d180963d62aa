// Package kv is the vocabulary of the backend: what an entry is, which keys and
// values are allowed, and every error that a caller can act on. It imports the
// standard library only, and every other package of the backend may import it.
package kv

import (
	"strconv"
	"time"
)

// An Entry is one version of a key. Entries are immutable: nobody may change the
// bytes of Value after the entry was made, since caches and readers share them.
type Entry struct {
	// Key is the decoded key; CheckKey accepts it.
	Key string
	// Value is a JSON text, kept byte for byte as the client sent it.
	Value []byte
	// Version counts the writes of Key: 1, 2, 3 and so on without a gap.
	Version int64
	// Revision counts the writes of the whole store in commit order.
	Revision int64
	// Time is when the entry was written. It never runs backwards within a key.
	Time Timestamp
}

// Size is the number of bytes that an entry counts for in a cache: its key and
// its value.
func (e Entry) Size() int64 { return int64(len(e.Key) + len(e.Value)) }

// A Timestamp is a point in time in microseconds since the Unix epoch; it is not
// negative.
type Timestamp int64

// NewTimestamp returns t, cut to microseconds.
func NewTimestamp(t time.Time) Timestamp { return Timestamp(t.UnixMicro()) }

// AppendJSON appends the timestamp as Unix seconds with six decimals, the form
// in which every answer tells it.
func (t Timestamp) AppendJSON(b []byte) []byte {
	const micros = 1_000_000
	b = strconv.AppendInt(b, int64(t)/micros, 10)
	point := len(b)
	b = strconv.AppendInt(b, micros+int64(t)%micros, 10) // a 1 and six digits
	b[point] = '.'
	return b
}

// MarshalJSON encodes as AppendJSON does.
func (t Timestamp) MarshalJSON() ([]byte, error) { return t.AppendJSON(nil), nil }

// Written is what a write did.
type Written struct {
	// Entry is the version that was written.
	Entry Entry
	// Previous is the version that was the latest before, 0 when the key is new.
	Previous int64
	// TotalVersions counts the versions of the key that can be read, this one
	// included.
	TotalVersions int64
}

// Created reports whether the write made the key.
func (w Written) Created() bool { return w.Previous == 0 }

// Totals are the counters of a whole store.
type Totals struct {
	// Revision is that of the last write, 0 for an empty store.
	Revision int64
	// Keys counts the keys.
	Keys int64
	// Versions counts the versions that can be read, over all keys.
	Versions int64
}

// DatabaseStats describe a database.
type DatabaseStats struct {
	Totals
	// Bytes is the size of the database file, without its write-ahead log.
	Bytes int64
}
