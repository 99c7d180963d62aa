package database

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/mattn/go-sqlite3"

	"kvstore/backend/kv"
)

// translate turns a driver's error into one of package kv and keeps the cause for
// the log. An error of the context stays what it is.
func translate(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	if cause := ctx.Err(); cause != nil {
		return fmt.Errorf("%s: %w", doing, cause)
	}
	var known *kv.Error
	if errors.As(err, &known) { // ours already
		return err
	}
	return fmt.Errorf("%s: %w: %w", doing, kindOf(err), err)
}

// errUnreadablePage is SQLITE_IOERR_CORRUPTFS, of which statements make SQLITE_CORRUPT.
var errUnreadablePage = sqlite3.ErrIoErr.Extend(33)

func kindOf(err error) error {
	var failure sqlite3.Error
	if !errors.As(err, &failure) {
		if errors.Is(err, kv.ErrCorrupt) || isScan(err) {
			return kv.ErrCorrupt
		}
		return kindOfSystem(err)
	}
	if isFull(failure.SystemErrno) {
		return kv.ErrStorageFull // SQLite has this code for what it appends to a file alone
	}
	switch failure.Code {
	case sqlite3.ErrFull:
		return kv.ErrStorageFull
	case sqlite3.ErrCorrupt, sqlite3.ErrNotADB:
		// Also when the disk does not give a page back (EIO): SQLite does not tell which.
		return kv.ErrCorrupt
	case sqlite3.ErrIoErr:
		if failure.ExtendedCode == errUnreadablePage {
			return kv.ErrCorrupt // a new connection reads the schema, and gets the code as it is
		}
		return kv.ErrDiskFailed
	default:
		return kv.ErrUnavailable
	}
}

// kindOfSystem is for what this package reads and writes without SQLite.
func kindOfSystem(err error) error {
	var number syscall.Errno
	switch {
	case !errors.As(err, &number):
		return kv.ErrUnavailable
	case isFull(number):
		return kv.ErrStorageFull
	case number == syscall.EIO, number == syscall.EROFS:
		return kv.ErrDiskFailed
	default:
		return kv.ErrUnavailable
	}
}

// unsound says of a file that a check could not read to its end that it is damaged,
// unless the check was ended.
func unsound(err error) error {
	if wasEnded(err) {
		return err
	}
	return fmt.Errorf("the database file is damaged: %w", err)
}

// wasEnded reports whether err is that of the context of a read, which tells nothing of
// what was to be read.
func wasEnded(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func isFull(number syscall.Errno) bool { return number == syscall.ENOSPC || number == syscall.EDQUOT }
