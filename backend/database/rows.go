package database

import (
	"database/sql"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// A row is scanned into a storedKey, storedVersion, storedTotals or storedErased, and used only if
// its check returns nil.

// keyRowColumns are those of a storedKey.
const keyRowColumns = `keys.id, keys.key, keys.version, keys.revision, keys.timestamp, keys.total_versions,
	keys.deleted, keys.expires_at, keys.complete_from, keys.pruned, keys.checksum`

type storedKey struct {
	key      string
	head     Head
	checksum int64
}

func (k *storedKey) fields() []any {
	h := &k.head
	return []any{
		&h.ID, &k.key, &h.Version, &h.Revision, &h.Time, &h.TotalVersions,
		&h.Deleted, &h.Expires, &h.CompleteFrom, &h.Pruned, &k.checksum,
	}
}

// check returns kv.ErrCorrupt unless the row matches its checksum.
func (k *storedKey) check() error {
	if got := keyChecksum(k.key, k.head); got != k.checksum {
		return damaged(k.key, 0, fmt.Sprintf("its row has the checksum %08x, what is read has %08x", uint32(k.checksum), uint32(got)))
	}
	return nil
}

// is returns kv.ErrCorrupt unless the row is that of the key and matches its checksum.
func (k *storedKey) is(key string) error {
	if k.key != key {
		return damaged(key, 0, "the index leads to the key '"+k.key+"'")
	}
	return k.check()
}

// findKey returns the head of a key and whether there is that key.
func findKey(tx *gorm.DB, key string) (Head, bool, error) {
	var k storedKey
	err := tx.Raw("SELECT "+keyRowColumns+" FROM keys WHERE key = ?", key).Row().Scan(k.fields()...)
	if errors.Is(err, sql.ErrNoRows) {
		return Head{}, false, nil
	}
	if err == nil {
		err = k.is(key)
	}
	return k.head, err == nil, translateRow(tx, "read a key", err, key, 0)
}

// versionColumns are those of a storedVersion without key and value. The size of a value is stored
// in front of the row, so length does not read the value.
const versionColumns = `versions.version, versions.revision, versions.timestamp, versions.operation,
	versions.content_type, versions.author, versions.expires_at, versions.destroyed,
	versions.checksums, length(versions.value)`

// entryColumns are those of a storedVersion in a query of keys and versions.
const entryColumns = "keys.key, " + versionColumns + ", versions.value"

// describedColumns are entryColumns without the value.
const describedColumns = "keys.key, " + versionColumns + ", NULL"

// sameVersion joins a key with its latest version.
const sameVersion = "versions.revision = keys.revision AND versions.key_id = keys.id AND versions.version = keys.version"

type storedVersion struct {
	kv.Entry
	size, checksums int64
}

// fields are the targets of versionColumns and the value.
func (v *storedVersion) fields() []any {
	return []any{
		&v.Version, &v.Revision, &v.Time, &v.Operation, &v.ContentType, &v.Author, &v.Expires, &v.Destroyed,
		&v.checksums, &v.size, &v.Value,
	}
}

// entryFields are the targets of entryColumns. GORM's own Scan costs more than the read, since it
// matches columns and fields each time.
func (v *storedVersion) entryFields() []any { return append([]any{&v.Key}, v.fields()...) }

// check returns kv.ErrCorrupt unless all but the value matches its checksum.
func (v *storedVersion) check() error {
	row, value := parts(v.checksums)
	if got := versionChecksum(&v.Entry, v.size, value); got != row {
		return damaged(v.Key, v.Version, fmt.Sprintf("its row has the checksum %08x, what is read has %08x", uint32(row), uint32(got)))
	}
	return nil
}

// checkAll is check with the value.
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

// findEntry returns the entry that a query of entryColumns finds, and whether it finds one. It is
// checked, and must be of that key, and have that version unless version is 0.
func findEntry(tx *gorm.DB, key string, version int64, query string, args ...any) (kv.Entry, bool, error) {
	const doing = "read an entry"
	row := tx.Raw(query, args...).Row()
	if row == nil { // GORM has not run it
		return kv.Entry{}, false, Translate(tx, doing, errors.New("the query was not made"))
	}
	var v storedVersion
	err := row.Scan(v.entryFields()...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return kv.Entry{}, false, nil
	case err != nil:
	case key != v.Key, version != 0 && version != v.Version:
		err = damaged(key, version, fmt.Sprintf("the index leads to '%s' version %d", v.Key, v.Version))
	default:
		err = v.checkAll()
	}
	if err != nil {
		return kv.Entry{}, false, translateRow(tx, doing, err, key, version)
	}
	return v.Entry, true, nil
}

// A storedErased is the row of an erased key.
type storedErased struct {
	digest            []byte
	version, checksum int64
}

const erasedColumns = "digest, version, checksum"

func (e *storedErased) fields() []any { return []any{&e.digest, &e.version, &e.checksum} }

// check returns kv.ErrCorrupt unless the row matches its checksum.
func (e *storedErased) check() error {
	if erasedChecksum(e.digest, e.version) != e.checksum {
		return fmt.Errorf("%w: how far an erased key had counted", kv.ErrCorrupt)
	}
	return nil
}

// tableRows is how many rows one statement of readTable reads. The number is a part of the SQL, so that no
// plan is made for an unknown one.
const tableRows = 1000

// readTable calls fn with each row of a query for rows after the last one, whose primary key fn returns. The other
// arguments of the query are more. An error of fn comes back as it is.
func readTable(
	tx *gorm.DB, doing, query string, last any, fn func(*sql.Rows) (last any, err error), more ...any,
) error {
	for {
		found, next, err := readPiece(tx, doing, query, append([]any{last}, more...), fn)
		if err != nil || found < tableRows {
			return err
		}
		last = next
	}
}

func readPiece(
	tx *gorm.DB, doing, query string, args []any, fn func(*sql.Rows) (last any, err error),
) (found int, last any, err error) {
	rows, err := tx.Raw(query, args...).Rows()
	if err != nil {
		return 0, nil, Translate(tx, doing, err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for ; rows.Next(); found++ {
		if last, err = fn(rows); err != nil {
			return 0, nil, err
		}
	}
	return found, last, Translate(tx, doing, rows.Err())
}
