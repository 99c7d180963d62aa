package kv

import (
	"errors"
	"fmt"
)

// The errors that a caller can act on. Compare with errors.Is: they come wrapped,
// mostly in an *Error that has the detail for the client.
var (
	// ErrInvalidKey: the key breaks a rule of CheckKey.
	ErrInvalidKey = errors.New("invalid key")
	// ErrKeyNotFound: no such key.
	ErrKeyNotFound = errors.New("key not found")
	// ErrKeyDeleted: the key was deleted or has expired; it does not exist now.
	ErrKeyDeleted = errors.New("key is deleted")
	// ErrVersionNotFound: the key has no such version.
	ErrVersionNotFound = errors.New("version not found")
	// ErrVersionRequired: the write must name a version.
	ErrVersionRequired = errors.New("version required")
	// ErrVersionGone: the key had that version, and it was removed or destroyed.
	ErrVersionGone = errors.New("version is gone")
	// ErrValueTooLarge: the value has more bytes than the store accepts.
	ErrValueTooLarge = errors.New("value too large")
	// ErrBatchTooLarge: the operations of a batch read more than it may.
	ErrBatchTooLarge = errors.New("batch too large")
	// ErrStorageFull: the disk has no room for the write; nothing was written.
	ErrStorageFull = errors.New("storage is full")
	// ErrDiskFailed: the disk reports an error, so that what was asked for cannot be
	// read, or a write was not made; the same request may work later.
	ErrDiskFailed = errors.New("the disk failed")
	// ErrOutcomeUnknown: the disk failed when a write was to be made safe. No read sees the
	// write, but it may be there after a restart.
	ErrOutcomeUnknown = errors.New("the outcome of the write is not known")
	// ErrUnavailable: the database or the store cannot serve now; nothing was
	// written, and the same request may work later.
	ErrUnavailable = errors.New("store is unavailable")
	// ErrCopying: the database is being copied already.
	ErrCopying = errors.New("a copy is being made")
	// ErrCorrupt: the database is damaged; what was read is not served.
	ErrCorrupt = errors.New("database is damaged")
)

// An Error is one of the errors above together with what to tell the client.
type Error struct {
	// Kind is one of the sentinels.
	Kind error
	// Detail names what is wrong in words for the client.
	Detail string
}

func (e *Error) Error() string { return e.Detail }

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Kind }

// KeyNotFound says that there is no key; the words are those of the predecessor.
func KeyNotFound(key string) error {
	return &Error{ErrKeyNotFound, fmt.Sprintf("Key '%s' not found", key)}
}

// KeyDeleted says that the key has ended, and with which version.
func KeyDeleted(key string, version int64) error {
	return &Error{ErrKeyDeleted, fmt.Sprintf("Key '%s' was deleted at version %d", key, version)}
}

// KeyExpired says that the key has ended at that time. The version that tells of it may be
// still to come.
func KeyExpired(key string, at Timestamp) error {
	return &Error{ErrKeyDeleted, fmt.Sprintf("Key '%s' expired at %s", key, at.AppendJSON(nil))}
}

// VersionNotFound says that key has no such version, in the predecessor's words.
func VersionNotFound(key string, version int64) error {
	return &Error{ErrVersionNotFound, fmt.Sprintf("Key '%s' version %d not found", key, version)}
}

// VersionGone says that a version of key was removed.
func VersionGone(key string, version int64) error {
	return &Error{ErrVersionGone, fmt.Sprintf("Key '%s' version %d was removed", key, version)}
}

// VersionDestroyed says that the bytes of a version of key were erased for good.
func VersionDestroyed(key string, version int64) error {
	return &Error{ErrVersionGone, fmt.Sprintf("Key '%s' version %d was destroyed", key, version)}
}

// Damaged says that a version of key is not what was written, or cannot be found where
// it must be; with version 0 it is what the store knows of the key itself.
func Damaged(key string, version int64) error {
	if version == 0 {
		return &Error{ErrCorrupt, fmt.Sprintf("Key '%s' is damaged on the disk; it is not served", key)}
	}
	return &Error{ErrCorrupt, fmt.Sprintf("Key '%s' version %d is damaged on the disk; it is not served", key, version)}
}

// ValueTooLarge says which limit a value is over, and the option to change it.
func ValueTooLarge(limit int64) error {
	return &Error{ErrValueTooLarge, fmt.Sprintf("value: is over the limit of %d bytes (KV_MAX_VALUE_BYTES)", limit)}
}

// BatchTooLarge says how many bytes of values a batch may read.
func BatchTooLarge(limit int64) error {
	return &Error{ErrBatchTooLarge, fmt.Sprintf("the values that the batch reads are over the limit of %d bytes in all; read in several batches", limit)}
}
