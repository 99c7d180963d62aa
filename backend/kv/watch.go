package kv

import (
	"errors"
	"fmt"
	"strings"
)

// The errors of a change feed.
var (
	// ErrFutureRevision: the feed was asked to go on after a revision that the store
	// has not reached.
	ErrFutureRevision = errors.New("revision is in the future")
	// ErrTooManyWatchers: the store has as many watchers as it may have.
	ErrTooManyWatchers = errors.New("too many watchers")
	// ErrSlowWatcher: more happened than the watcher's queue holds before the watcher
	// took it.
	ErrSlowWatcher = errors.New("watcher is too slow")
	// ErrWatchEnded: the store ends all feeds, since it is about to stop.
	ErrWatchEnded = errors.New("watch has ended")
)

// FutureRevision says how far the store is. A revision beyond that is one of another
// store: events could be missed without notice.
func FutureRevision(asked, current int64) error {
	return &Error{ErrFutureRevision, fmt.Sprintf(
		"since: %d is in the future: the store is at revision %d; read the keys anew, and watch from there", asked, current)}
}

// TooManyWatchers says which limit is reached, and the option to change it.
func TooManyWatchers(limit int) error {
	return &Error{ErrTooManyWatchers, fmt.Sprintf("There are %d watchers already, which is the limit (KV_MAX_WATCHERS)", limit)}
}

// CheckPrefix is CheckKey for the beginning of a key, which may be empty.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	err := CheckKey(prefix)
	var known *Error
	if errors.As(err, &known) {
		return &Error{known.Kind, "prefix: " + strings.TrimPrefix(known.Detail, "key: ")}
	}
	return err
}
