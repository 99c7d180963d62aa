package kv

import (
	"errors"
	"fmt"
)

// A Class says what an error asks of whoever gets it.
type Class int

const (
	// ClassOther is an error that is not of this package, such as that of a context.
	ClassOther Class = iota
	// ClassRefused means that the request cannot be done as it is. Nothing was written, and nothing
	// is wrong with the store.
	ClassRefused
	// ClassUnavailable means that the store does not serve the request now. Nothing was written, and
	// the same request may work later.
	ClassUnavailable
	// ClassDisk means that the disk is full or fails, which concerns every write. The same request
	// may work later; what became of it is unknown only with ErrOutcomeUnknown.
	ClassDisk
	// ClassKeyDamage means that what is stored of one key is damaged. Requests for other keys work.
	ClassKeyDamage
	// ClassDamage means that the database is damaged.
	ClassDamage
)

// OneRequest reports whether an error of the class concerns the request that it answers
// and no other.
func (c Class) OneRequest() bool { return c == ClassRefused || c == ClassKeyDamage }

// The errors that a caller can act on, each with its class. Compare with errors.Is or ask
// ClassOf: they come wrapped, mostly in an *Error that has the detail for the client.
var (
	// ErrInvalidKey: the key breaks a rule of CheckKey.
	ErrInvalidKey = newSentinel("invalid key", ClassRefused)
	// ErrKeyNotFound: no such key.
	ErrKeyNotFound = newSentinel("key not found", ClassRefused)
	// ErrKeyDeleted: the key was deleted or has expired; it does not exist now.
	ErrKeyDeleted = newSentinel("key is deleted", ClassRefused)
	// ErrVersionNotFound: the key has no such version.
	ErrVersionNotFound = newSentinel("version not found", ClassRefused)
	// ErrVersionRequired: the write must name a version.
	ErrVersionRequired = newSentinel("version required", ClassRefused)
	// ErrVersionGone: the key had that version, and it was removed or destroyed.
	ErrVersionGone = newSentinel("version is gone", ClassRefused)
	// ErrPreconditionFailed: a condition of the write does not hold. It comes as a
	// *PreconditionError.
	ErrPreconditionFailed = newSentinel("precondition failed", ClassRefused)
	// ErrValueTooLarge: the value has more bytes than the store accepts.
	ErrValueTooLarge = newSentinel("value too large", ClassRefused)
	// ErrBatchTooLarge: the operations of a batch read more than it may.
	ErrBatchTooLarge = newSentinel("batch too large", ClassRefused)
	// ErrFutureRevision: the request names a revision that the store has not reached.
	ErrFutureRevision = newSentinel("revision is in the future", ClassRefused)
	// ErrUnsupported: the engine of the database does not do that.
	ErrUnsupported = newSentinel("not supported", ClassRefused)
	// ErrSlowWatcher: a change feed was not read in time.
	ErrSlowWatcher = newSentinel("watcher is too slow", ClassRefused)

	// ErrWatchEnded: the store ends all change feeds, since it is about to stop.
	ErrWatchEnded = newSentinel("watch has ended", ClassUnavailable)
	// ErrTooManyWatchers: the store has as many watchers as it may have.
	ErrTooManyWatchers = newSentinel("too many watchers", ClassUnavailable)
	// ErrOverloaded: as much waits already as may.
	ErrOverloaded = newSentinel("overloaded", ClassUnavailable)
	// ErrCopying: the database is being copied already.
	ErrCopying = newSentinel("a copy is being made", ClassUnavailable)
	// ErrNotReached: whether the store has reached the revision that a read asks for could not be found out in
	// time.
	ErrNotReached = newSentinel("revision is not reached", ClassUnavailable)
	// ErrUnavailable: the database or the store cannot serve now.
	ErrUnavailable = newSentinel("store is unavailable", ClassUnavailable)

	// ErrStorageFull: the disk has no room for the write; nothing was written.
	ErrStorageFull = newSentinel("storage is full", ClassDisk)
	// ErrDiskFailed: the disk reports an error, so what was asked for cannot be read, or a
	// write was not made.
	ErrDiskFailed = newSentinel("the disk failed", ClassDisk)
	// ErrOutcomeUnknown: the disk or the connection failed while the write was made safe. It may be
	// there now, or after a restart.
	ErrOutcomeUnknown = newSentinel("the outcome of the write is not known", ClassDisk)

	// ErrCorrupt: something in the database is damaged; what was read is not served.
	ErrCorrupt = newSentinel("database is damaged", ClassDamage)
	// ErrKeyCorrupt is ErrCorrupt of one key.
	ErrKeyCorrupt error = &sentinel{"key is damaged", ClassKeyDamage, ErrCorrupt}
)

type sentinel struct {
	text  string
	class Class
	kind  error // the wider error that it is too, or nil
}

func newSentinel(text string, class Class) error { return &sentinel{text, class, nil} }

func (s *sentinel) Error() string { return s.text }
func (s *sentinel) Unwrap() error { return s.kind }

// ClassOf returns the class of err. Of several errors in it the first counts.
func ClassOf(err error) Class {
	var s *sentinel
	if errors.As(err, &s) {
		return s.class
	}
	return ClassOther
}

// An Error is one of the errors above together with what to tell the client.
type Error struct {
	// Kind is one of the sentinels.
	Kind error
	// Field names the part of the request that is at fault, "" for none.
	Field string
	// Detail says what is wrong in words for the client.
	Detail string
}

// Error returns the detail, after the field if there is one.
func (e *Error) Error() string {
	if e.Field == "" {
		return e.Detail
	}
	return e.Field + ": " + e.Detail
}

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Kind }

func newError(kind error, format string, args ...any) error {
	return &Error{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// KeyNotFound says that there is no key; the words are those of the predecessor.
func KeyNotFound(key string) error { return newError(ErrKeyNotFound, "Key '%s' not found", key) }

// KeyDeleted says that the key has ended, and with which version.
func KeyDeleted(key string, version int64) error {
	return newError(ErrKeyDeleted, "Key '%s' was deleted at version %d", key, version)
}

// KeyExpired says that the key has ended at that time. Its tombstone may not be written
// yet.
func KeyExpired(key string, at Timestamp) error {
	return newError(ErrKeyDeleted, "Key '%s' expired at %s", key, at.AppendJSON(nil))
}

// VersionNotFound says that key has no such version, in the predecessor's words.
func VersionNotFound(key string, version int64) error {
	return newError(ErrVersionNotFound, "Key '%s' version %d not found", key, version)
}

// VersionNotYet says that key had no version at that time.
func VersionNotYet(key string, at Timestamp) error {
	return newError(ErrVersionNotFound, "Key '%s' had no version at %s", key, at.AppendJSON(nil))
}

// VersionGone says that a version of key was removed.
func VersionGone(key string, version int64) error {
	return newError(ErrVersionGone, "Key '%s' version %d was removed", key, version)
}

// VersionGoneAt says that the versions that key may have had at that time were removed.
func VersionGoneAt(key string, at Timestamp) error {
	return newError(ErrVersionGone, "Key '%s': its versions up to %s were removed", key, at.AppendJSON(nil))
}

// VersionDestroyed says that the bytes of a version of key were erased for good.
func VersionDestroyed(key string, version int64) error {
	return newError(ErrVersionGone, "Key '%s' version %d was destroyed", key, version)
}

// Damaged says that a version of key is not what was written, or cannot be found where
// it must be; with version 0 it is what the store knows of the key itself.
func Damaged(key string, version int64) error {
	if version == 0 {
		return newError(ErrKeyCorrupt, "Key '%s' is damaged on the disk; it is not served", key)
	}
	return newError(ErrKeyCorrupt, "Key '%s' version %d is damaged on the disk; it is not served", key, version)
}

// ValueTooLarge says which limit a value is over, and the option to change it.
func ValueTooLarge(limit int64) error {
	return &Error{ErrValueTooLarge, "value", fmt.Sprintf("is over the limit of %d bytes (KV_MAX_VALUE_BYTES)", limit)}
}

// BatchTooLarge says how many bytes of values a batch may read.
func BatchTooLarge(limit int64) error {
	return newError(ErrBatchTooLarge, "the values that the batch reads are over the limit of %d bytes in all; read in several batches", limit)
}

// FutureRevision says how far the store is. A revision beyond that is one of another
// store: events could be missed without notice.
func FutureRevision(asked, current int64) error {
	return &Error{ErrFutureRevision, "since", fmt.Sprintf(
		"%d is in the future: the store is at revision %d; read the keys anew, and watch from there", asked, current)}
}

// MinRevisionNotReached says how far the store is behind the revision that a read asks for.
func MinRevisionNotReached(asked, current int64) error {
	return &Error{ErrFutureRevision, "min_revision", fmt.Sprintf(
		"%d is in the future: the store is at revision %d; no write of this store was answered with it", asked, current)}
}

// MinRevisionUnknown says what is known of the store when a read asks for a later revision.
func MinRevisionUnknown(asked, known int64) error {
	return newError(ErrNotReached, "Revision %d, which min_revision asks for, was not reached in time: this backend knows the "+
		"store up to revision %d, and the database has not answered", asked, known)
}

// TooManyWatchers says which limit is reached, and the option to change it.
func TooManyWatchers(limit int) error {
	return newError(ErrTooManyWatchers, "There are %d watchers already, which is the limit (KV_MAX_WATCHERS)", limit)
}

// TooManyWrites says how many writes may wait, and the option to change that.
func TooManyWrites(limit int) error {
	return newError(ErrOverloaded, "Overloaded: %d writes wait already, which is the limit (KV_MAX_QUEUED_WRITES); nothing was written", limit)
}

// TooManyBytes says how many bytes of values may wait, and the option to change that.
func TooManyBytes(limit int64) error {
	return newError(ErrOverloaded, "Overloaded: the values that wait to be written come to the limit of %d bytes (KV_MAX_QUEUED_BYTES); nothing was written", limit)
}

// TooManyAnswerBytes says how many bytes of answers may wait, and the option to change
// that.
func TooManyAnswerBytes(limit int64) error {
	return newError(ErrOverloaded, "Overloaded: the answers that wait for their clients come to the limit of %d bytes (KV_MAX_QUEUED_BYTES)", limit)
}

// TooManyRequests says how many requests may be under way, and the option to change
// that.
func TooManyRequests(limit int) error {
	return newError(ErrOverloaded, "Overloaded: %d requests are under way, which is the limit (KV_MAX_REQUESTS); nothing was done", limit)
}
