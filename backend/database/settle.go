package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mattn/go-sqlite3"
	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// startWait is how long a start waits for other programs that read the log.
const startWait = 200 * time.Millisecond

// settleSQL changes a page and leaves it as it was.
var settleSQL = []string{
	"UPDATE store SET compacted = compacted + 1",
	"UPDATE store SET compacted = compacted - 1",
}

// Failing reports whether the last attempt to write failed since the disk reports
// errors. It is false again after the next commit, or the next Settle that works.
func (db *DB) Failing() bool { return db.failing.Load() }

// Settle commits a transaction that changes nothing that anybody reads. When it returns
// nil the disk takes writes, and every commit that failed before has left nothing.
func (db *DB) Settle(ctx context.Context) error {
	db.memory.mu.Lock()
	defer db.memory.mu.Unlock()
	return db.settleLocked(ctx)
}

// settleLocked: a commit whose sync failed has written its frames into the log, and the
// next process would find them there and take them for committed. What is committed
// next is written over them.
func (db *DB) settleLocked(ctx context.Context) (err error) {
	defer func() { db.noteLocked(err, true) }()
	if err := db.inPlace(); err != nil {
		return err
	}
	return translate(ctx, "settle a commit that failed", db.writer.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		for _, statement := range settleSQL {
			if err := tx.Exec(statement).Error; err != nil {
				return err
			}
		}
		return nil
	}))
}

// commitFailedLocked returns what a failed commit is to the caller: an error that says
// that nothing was written, if that can be made certain now, else kv.ErrOutcomeUnknown.
func (db *DB) commitFailedLocked(ctx context.Context, cause error) error {
	db.memory.forgetLocked()
	failed := translate(ctx, "commit", cause)
	if leavesNothing(cause) {
		return failed
	}
	// Not with ctx: the commit came to an end too.
	if err := db.settleLocked(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("%w: %w; and then: %v", kv.ErrOutcomeUnknown, cause, err) //nolint:errorlint // its kind is not that of the answer
	}
	return failed
}

// moveLog moves what an earlier process left in the write-ahead log into the file, and
// syncs that, before anything of it is served. If a sync of the log failed in that
// process, the memory of the system may have what the disk has not, and no later sync
// would write it: it would be read now and gone after a loss of power, and with it
// whatever is appended behind it.
func (db *DB) moveLog(ctx context.Context, logger *slog.Logger) error {
	return db.withWriter(ctx, func(conn *sql.Conn) error {
		var empty bool
		err := waitAtMost(ctx, conn, startWait, func() (err error) {
			empty, err = truncateLog(ctx, conn)
			return err
		})
		if errors.Is(kindOf(err), kv.ErrStorageFull) { // reads should go on
			empty, err = false, nil
		}
		if err != nil {
			return fmt.Errorf("move the write-ahead log into the file: %w", err)
		}
		if !empty {
			logger.Warn("the write-ahead log cannot be moved into the database file now: the disk is full, or another program reads it")
		}
		return nil
	})
}

// leavesNothing reports whether a commit that failed so has not written its last frame
// into the log, without which the others count for nothing.
func leavesNothing(cause error) bool {
	var failure sqlite3.Error
	if !errors.As(cause, &failure) {
		return false
	}
	return failure.Code == sqlite3.ErrFull || failure.Code == sqlite3.ErrConstraint || failure.ExtendedCode == sqlite3.ErrIoErrWrite
}

// noteLocked remembers what an attempt to write says of the disk.
func (db *DB) noteLocked(err error, committed bool) {
	switch {
	case errors.Is(err, kv.ErrDiskFailed), errors.Is(err, kv.ErrOutcomeUnknown):
		db.failing.Store(true)
	case err == nil && committed:
		db.failing.Store(false)
	}
}
