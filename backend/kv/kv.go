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
	// Value is what the client sent, byte for byte: a JSON text, or bytes of
	// ContentType. A tombstone has none, and neither has a destroyed version.
	Value []byte
	// ContentType is that of the value; "" means that it is a JSON text.
	ContentType string
	// Version counts the writes of Key: 1, 2, 3 and so on without a gap.
	Version int64
	// Revision counts the writes of the whole store in commit order.
	Revision int64
	// Time is when the entry was written. It never runs backwards within a key.
	Time Timestamp
	// Operation is what made the version.
	Operation Operation
	// Author is the name of who made it, "" when that is not known.
	Author string
	// Expires is when the key counts as deleted, unless another version follows
	// before; 0 means never.
	Expires Timestamp
	// Destroyed: the value was erased for good.
	Destroyed bool
}

// Size is the number of bytes that an entry counts for in a cache: its key, its
// value and the texts that describe it.
func (e Entry) Size() int64 {
	return int64(len(e.Key) + len(e.Value) + len(e.ContentType) + len(e.Author))
}

// Expired reports whether the entry has expired at that time.
func (e Entry) Expired(now Timestamp) bool { return e.Expires != 0 && e.Expires <= now }

// Readable returns nil when the version has a value, else why it has none:
// ErrKeyDeleted or ErrVersionGone. An expired version goes on being readable by its
// number, as those before a deletion do.
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

// Live is Readable of a latest version at that time: one that has expired is
// ErrKeyDeleted, whether its tombstone is there yet or not.
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
	// afterwards. OpDestroy is seen by watchers alone, since it takes the key's
	// history with it.
	OpDelete  Operation = "delete"
	OpExpire  Operation = "expire"
	OpDestroy Operation = "destroy"
)

// Tombstone reports whether a version that o makes says that there is no value.
func (o Operation) Tombstone() bool { return o == OpDelete || o == OpExpire || o == OpDestroy }

// A Timestamp is a point in time in microseconds since the Unix epoch. That of an entry
// is not negative; one that is asked for may be.
type Timestamp int64

// NewTimestamp returns t, cut to microseconds.
func NewTimestamp(t time.Time) Timestamp { return Timestamp(t.UnixMicro()) }

// AppendJSON appends the timestamp as Unix seconds with six decimals, the form
// in which every answer tells it.
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

// Written is what a write did.
type Written struct {
	// Entry is the version that was written.
	Entry Entry
	// Previous is the version that was the latest before, 0 when the key did not
	// exist, or was deleted.
	Previous int64
	// TotalVersions counts the versions of the key that are in its history and not
	// destroyed, this one included.
	TotalVersions int64
}

// Created reports whether the key did not exist before the write.
func (w Written) Created() bool { return w.Previous == 0 }

// Totals are the counters of a whole store.
type Totals struct {
	// Revision is that of the last write, 0 for an empty store.
	Revision int64
	// Keys counts the keys that exist. One that has expired counts until its
	// tombstone is written.
	Keys int64
	// Versions counts the versions that are in a history and not destroyed, over
	// all keys.
	Versions int64
	// Compacted: up to this revision some may be missing, since they were removed from a
	// history or a restore passed over them. What happened after it is known without a gap.
	Compacted int64
	// Forgotten is the highest revision that was removed together with the name of its
	// key, so that nobody knows whose it was.
	Forgotten int64
	// Restored is the revision with which the last restore of a backup went on; 0 when
	// there was none. Every revision that was given out before the restore is lower.
	Restored int64
}

// DatabaseStats describe a database.
type DatabaseStats struct {
	Totals
	// Bytes is the size of the database file, without its write-ahead log.
	Bytes int64
}

// A Compaction is what one step of giving space back to the disk did.
type Compaction struct {
	// Freed is how many bytes the file has lost, and Free how many it could still lose.
	Freed, Free int64
	// Bytes is the size of the file now.
	Bytes int64
}
