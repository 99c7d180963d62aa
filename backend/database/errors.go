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
	return fmt.Errorf("%s: %w: %w", doing, kindOf(err), err)
}

func kindOf(err error) error {
	var failure sqlite3.Error
	if !errors.As(err, &failure) {
		return kv.ErrUnavailable
	}
	if failure.SystemErrno == syscall.ENOSPC || failure.SystemErrno == syscall.EDQUOT {
		return kv.ErrStorageFull // of the files beside the database, for which SQLite has another code
	}
	switch failure.Code {
	case sqlite3.ErrFull:
		return kv.ErrStorageFull
	case sqlite3.ErrCorrupt, sqlite3.ErrNotADB:
		return kv.ErrCorrupt
	default:
		return kv.ErrUnavailable
	}
}
