package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"kvstore/backend/kv"
)

// Codes of PostgreSQL's errors that the program tells apart.
const (
	uniqueViolation     = "23505"
	readOnlyTransaction = "25006"
	featureNotSupported = "0A000"
	undefinedTable      = "42P01"
	duplicateTable      = "42P07"
	duplicateObject     = "42710" // the type of a table
)

// kinds are those of the errors that are not kv.ErrUnavailable. Unavailable are a server that cannot be
// reached, is read-only, ends or has no connection left, a lock that another backend keeps, and
// transactions that stood in each other's way: nothing was written, and it may work again.
var kinds = map[string]error{
	"53100": kv.ErrStorageFull, // disk_full
	"58030": kv.ErrDiskFailed,  // io_error
	"XX001": kv.ErrCorrupt,     // data_corrupted
	"XX002": kv.ErrCorrupt,     // index_corrupted
}

// kindOf returns the sentinel of package kv that an error of the driver is.
func kindOf(err error) error {
	if kind := kinds[codeOf(err)]; kind != nil {
		return kind
	}
	return kv.ErrUnavailable
}

// codeOf returns the code of an error that the server has sent, "" for any other.
func codeOf(err error) string {
	var sent *pgconn.PgError
	if errors.As(err, &sent) {
		return sent.Code
	}
	return ""
}
