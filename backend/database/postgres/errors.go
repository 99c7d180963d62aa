package postgres

import (
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// Codes of PostgreSQL's errors that the program tells apart.
const (
	connectionFailure   = "08" // the class of those of the connection
	uniqueViolation     = "23505"
	readOnlyTransaction = "25006"
	featureNotSupported = "0A000"
	undefinedTable      = "42P01"
	duplicateTable      = "42P07"
	duplicateObject     = "42710" // the type of a table
	unknownCompletion   = "40003" // statement_completion_unknown
	lockNotAvailable    = "55P03" // lock_timeout
	queryCanceled       = "57014" // by an operator
)

// kinds are those of the errors that are not kv.ErrUnavailable. Unavailable are a server that cannot be
// reached or has no connection left, and a lock that another backend keeps: nothing was written, and
// it may work later.
var kinds = map[string]error{
	featureNotSupported: database.ErrAgain, // a plan whose table was changed
	readOnlyTransaction: database.ErrAgain, // on a server that has become a standby
	"25P03":             database.ErrAgain, // idle_in_transaction_session_timeout
	"40001":             database.ErrAgain, // serialization_failure
	"40P01":             database.ErrAgain, // deadlock_detected
	"57P01":             database.ErrAgain, // admin_shutdown
	"57P02":             database.ErrAgain, // crash_shutdown
	"53100":             kv.ErrStorageFull, // disk_full
	"58030":             kv.ErrDiskFailed,  // io_error
	"XX001":             kv.ErrCorrupt,     // data_corrupted
	"XX002":             kv.ErrCorrupt,     // index_corrupted
}

// kindOf returns the sentinel of package kv that an error of the driver is.
func kindOf(err error) error {
	var unreachable *pgconn.ConnectError
	if errors.As(err, &unreachable) || pgconn.Timeout(err) {
		return kv.ErrUnavailable
	}
	if kind := kinds[codeOf(err)]; kind != nil {
		return kind
	}
	if broken(err) {
		return database.ErrAgain
	}
	return kv.ErrUnavailable
}

// broken reports whether an open connection has ended.
func broken(err error) bool {
	var failure net.Error
	return errors.As(err, &failure) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, driver.ErrBadConn) || pgconn.SafeToRetry(err)
}

// codeOf returns the code of an error that the server has sent, "" for any other.
func codeOf(err error) string {
	var sent *pgconn.PgError
	if errors.As(err, &sent) {
		return sent.Code
	}
	return ""
}

// refused reports whether the server has sent the error of a statement that it has not carried out.
func refused(err error) bool {
	var sent *pgconn.PgError
	return errors.As(err, &sent) && sent.SeverityUnlocalized == "ERROR" &&
		!strings.HasPrefix(sent.Code, connectionFailure) && sent.Code != unknownCompletion
}

// leavesNothing reports whether a commit that failed so was not made: the server has refused it, or
// nothing was sent.
func leavesNothing(err error) bool {
	var unreachable *pgconn.ConnectError
	return refused(err) || errors.As(err, &unreachable) || errors.Is(err, driver.ErrBadConn) || pgconn.SafeToRetry(err)
}
