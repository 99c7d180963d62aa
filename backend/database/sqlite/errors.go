package sqlite

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/mattn/go-sqlite3"

	"kvstore/backend/kv"
)

// kinds are those of SQLite's errors. SQLite says that a page is damaged also when the disk does
// not give it back (EIO).
var kinds = map[sqlite3.ErrNo]error{
	sqlite3.ErrFull:    kv.ErrStorageFull,
	sqlite3.ErrCorrupt: kv.ErrCorrupt,
	sqlite3.ErrNotADB:  kv.ErrCorrupt,
	sqlite3.ErrIoErr:   kv.ErrDiskFailed,
}

// systemKinds are those of the errors of the system.
var systemKinds = map[syscall.Errno]error{
	syscall.ENOSPC: kv.ErrStorageFull,
	syscall.EDQUOT: kv.ErrStorageFull,
	syscall.EIO:    kv.ErrDiskFailed,
	syscall.EROFS:  kv.ErrDiskFailed,
}

// errUnreadablePage is SQLITE_IOERR_CORRUPTFS. A statement makes SQLITE_CORRUPT of it; a new
// connection, which reads the schema, returns it as it is.
var errUnreadablePage = sqlite3.ErrIoErr.Extend(33)

// kindOf returns the sentinel of package kv that an error is, of SQLite or of the system.
func kindOf(err error) error {
	var failure sqlite3.Error
	var number syscall.Errno
	kind := error(nil)
	switch {
	case errors.As(err, &failure) && systemKinds[failure.SystemErrno] == kv.ErrStorageFull: //nolint:errorlint // a table of sentinels
		kind = kv.ErrStorageFull // SQLite has a code of its own for what it appends to a file alone
	case failure.ExtendedCode == errUnreadablePage:
		kind = kv.ErrCorrupt
	case failure.Code != 0:
		kind = kinds[failure.Code]
	case errors.As(err, &number):
		kind = systemKinds[number]
	}
	if kind == nil {
		kind = kv.ErrUnavailable
	}
	return kind
}

// leavesNothing reports whether a commit that failed so has not written its last frame
// into the log, without which the others count for nothing.
func leavesNothing(cause error) bool {
	var failure sqlite3.Error
	return errors.As(cause, &failure) &&
		(failure.Code == sqlite3.ErrFull || failure.Code == sqlite3.ErrConstraint || failure.ExtendedCode == sqlite3.ErrIoErrWrite)
}

// unreadable says of the first read why it failed, as far as SQLite tells.
func unreadable(err error) error {
	if errors.Is(kindOf(err), kv.ErrStorageFull) { // the file is whole, and there may be a lot of it
		return fmt.Errorf("the disk is full, there is no room for the 32 KiB beside the database that it is opened with (its file -shm): %w", err)
	}
	return unsound("the database file is damaged or cannot be read", err)
}

// unsound says of a file that could not be read to its end what that means, unless the context
// of the read has ended, which tells nothing of the file.
func unsound(what string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%s: %w", what, err)
}
