package database

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"kvstore/backend/kv"
)

// versionColumns are those of a version without its value; the size of that stands in
// front of the row, so that length does not read it.
const versionColumns = `versions.version, versions.revision, versions.timestamp, versions.operation,
	versions.content_type, versions.author, versions.expires_at, versions.destroyed,
	versions.checksums, length(versions.value)`

// entryColumns are those of a storedVersion, in a query of keys and versions. The value
// comes last.
const entryColumns = "keys.key, " + versionColumns + ", versions.value"

// sameVersion joins a key with its latest version. What does not fit is no version, and
// with a LEFT JOIN that is seen.
const sameVersion = "versions.revision = keys.revision AND versions.key_id = keys.id AND versions.version = keys.version"

// A storedVersion is a version as its row tells it. Nothing of it may be believed before
// check has returned nil.
type storedVersion struct {
	kv.Entry
	size, checksums int64
}

// fields are what versionColumns are scanned into, and the value behind them.
func (v *storedVersion) fields() []any {
	return []any{
		&v.Version, &v.Revision, &v.Time, &v.Operation, &v.ContentType, &v.Author, &v.Expires, &v.Destroyed,
		&v.checksums, &v.size, &v.Value,
	}
}

// check returns kv.ErrCorrupt unless all but the value is what was written.
func (v *storedVersion) check() error {
	row, value := parts(v.checksums)
	if got := versionChecksum(&v.Entry, v.size, value); got != row {
		return damaged(v.Key, v.Version, fmt.Sprintf("its row has the checksum %08x, what is read has %08x", uint32(row), uint32(got)))
	}
	return nil
}

// checkAll is check for the value too.
func (v *storedVersion) checkAll() error {
	if err := v.check(); err != nil {
		return err
	}
	_, value := parts(v.checksums)
	if got := sum(v.Value); got != value || int64(len(v.Value)) != v.size {
		return damaged(v.Key, v.Version, fmt.Sprintf("its value of %d bytes has the checksum %08x, the %d bytes that are read have %08x",
			v.size, uint32(value), len(v.Value), uint32(got)))
	}
	return nil
}

// damaged is kv.Damaged with what the log should know of it.
func damaged(key string, version int64, cause string) error {
	return fmt.Errorf("%w (%s)", kv.Damaged(key, version), cause)
}

// scanned makes the error of a scan, which a value of another kind in a column or a
// missing row is, one that names the key. Other errors stay what they are.
func scanned(err error, key string, version int64) error {
	var known *kv.Error
	if isCorrupt(err) && !errors.As(err, &known) {
		return damaged(key, version, err.Error())
	}
	return err
}

// isScan tells an error of converting a column from others, which database/sql does by
// its words alone. All our columns have the types that they are scanned into.
func isScan(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "sql: Scan error on column")
}

// scanEntry reads a row of entryColumns, if there is one, and checks it. GORM's own Scan
// costs more than the read: it learns the columns and their fields anew each time.
func scanEntry(row *sql.Row, key string, version int64) (kv.Entry, bool, error) {
	if row == nil { // GORM gives none when it did not get as far as the database
		return kv.Entry{}, false, errors.New("the query was not made")
	}
	var v storedVersion
	err := row.Scan(append([]any{&v.Key}, v.fields()...)...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return kv.Entry{}, false, nil
	case err != nil:
		return kv.Entry{}, false, scanned(err, key, version)
	case key != "" && key != v.Key, version != 0 && version != v.Version:
		return kv.Entry{}, false, damaged(key, version, fmt.Sprintf("the index leads to '%s' version %d", v.Key, v.Version))
	}
	if err := v.checkAll(); err != nil {
		return kv.Entry{}, false, err
	}
	return v.Entry, true, nil
}
