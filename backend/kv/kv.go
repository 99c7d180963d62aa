// Package kv is the vocabulary of the backend: what an entry is, which keys are allowed,
// and every error that a caller can act on, with its class. It imports only the standard
// library, and every other package of the backend may import it.
package kv

import (
	"strconv"
	"time"
)

// An Entry is one version of a key. Entries are immutable: caches and readers share the
// bytes of Value.
type Entry struct {
	// Key is the decoded key, which CheckKey accepts.
	Key string
	// Value is what the client sent, byte for byte: a JSON text, or bytes of
	// ContentType. Tombstones and destroyed versions have none.
	Value []byte
	// ContentType is that of the value, "" for a JSON text.
	ContentType string
	// Version counts the writes of Key: 1, 2, 3 and so on without a gap.
	Version int64
	// Revision counts the writes of the whole store in commit order.
	Revision int64
	// Time is when the entry was written. It never runs backwards within a key.
	Time Timestamp
	// Operation is the kind of write that made the version.
	Operation Operation
	// Author is the name of its author, "" if it is not known.
	Author string
	// Expires is when the key counts as deleted, unless it is written before; 0 means
	// never.
	Expires Timestamp
	// Destroyed means that the value was erased for good.
	Destroyed bool
}

// Size returns the number of bytes that an entry counts for in a cache: those of its key,
// its value and its other texts.
func (e Entry) Size() int64 {
	return int64(len(e.Key) + len(e.Value) + len(e.ContentType) + len(e.Author))
}

// Expired reports whether the entry has expired at that time.
func (e Entry) Expired(now Timestamp) bool { return e.Expires != 0 && e.Expires <= now }

// Readable returns nil if the version has a value, else ErrKeyDeleted or ErrVersionGone. An
// expired version remains readable by its number, as those before a deletion do.
func (e Entry) Readable() error {
	switch {
	case e.Operation.Tombstone():
		return KeyDeleted(e.Key, e.Version)
	case e.Destroyed:
		return VersionDestroyed(e.Key, e.Version)
	default:
		return nil
	}
}

// Live is Readable for the latest version of a key at that time. If it has expired, it is
// ErrKeyDeleted, whether its tombstone is written yet or not.
func (e Entry) Live(now Timestamp) error {
	if !e.Operation.Tombstone() && e.Expired(now) {
		return KeyExpired(e.Key, e.Expires)
	}
	return e.Readable()
}

// An Operation is the kind of a write. History and the change feed tell it.
type Operation string

// The operations. Each makes one version.
const (
	OpPut    Operation = "put"
	OpPatch  Operation = "patch"
	OpRevert Operation = "revert"
	// OpDelete, OpExpire and OpDestroy make a tombstone: the key does not exist
	// afterwards. Only watchers see OpDestroy, since it erases the key's history too.
	OpDelete  Operation = "delete"
	OpExpire  Operation = "expire"
	OpDestroy Operation = "destroy"
)

// Tombstone reports whether o makes a version without a value, which ends the key.
func (o Operation) Tombstone() bool { return o == OpDelete || o == OpExpire || o == OpDestroy }

// A Timestamp is a point in time in microseconds since the Unix epoch. That of an entry
// is not negative; one in a request may be.
type Timestamp int64

// NewTimestamp returns t, cut to microseconds.
func NewTimestamp(t time.Time) Timestamp { return Timestamp(t.UnixMicro()) }

// AppendJSON appends the timestamp as Unix seconds with six decimals.
func (t Timestamp) AppendJSON(b []byte) []byte {
	const micros = 1_000_000
	if t < 0 {
		b, t = append(b, '-'), -t
	}
	b = strconv.AppendInt(b, int64(t)/micros, 10)
	point := len(b)
	b = strconv.AppendInt(b, micros+int64(t)%micros, 10) // a 1 and six digits
	b[point] = '.'
	return b
}

// MarshalJSON encodes as AppendJSON does.
func (t Timestamp) MarshalJSON() ([]byte, error) { return t.AppendJSON(nil), nil }

// A Written is the result of a write.
type Written struct {
	// Entry is the version that was written.
	Entry Entry
	// Previous is the latest version before the write, 0 if the key did not exist.
	Previous int64
	// TotalVersions counts the versions in the history of the key that are not destroyed,
	// this one included.
	TotalVersions int64
}

// Created reports whether the key did not exist before the write.
func (w Written) Created() bool { return w.Previous == 0 }

// Totals are the counters of a whole store.
type Totals struct {
	// Revision is that of the last write, 0 for an empty store.
	Revision int64
	// Keys counts the keys that exist. A key that has expired counts until its tombstone is
	// written.
	Keys int64
	// Versions counts the versions in the histories of all keys that are not destroyed.
	Versions int64
	// Compacted is the last revision up to which some may be missing, since they were removed
	// from a history or a restore skipped them. After it none is missing.
	Compacted int64
	// Forgotten is the highest revision that was removed together with the name of its key.
	Forgotten int64
	// Restored is the first revision after the last restore of a backup, 0 if there was
	// none. All revisions that were assigned before the restore are lower.
	Restored int64
}

// DatabaseStats describe a database.
type DatabaseStats struct {
	Totals
	// Bytes is the size of the database file, without its write-ahead log.
	Bytes int64
}

// A Compaction is the result of one step of giving space back to the disk.
type Compaction struct {
	// Freed is by how many bytes the file shrank, and Free by how many it can still shrink.
	Freed, Free int64
	// Bytes is the size of the file now.
	Bytes int64
}
