package database

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// A Summary describes the contents of a database.
type Summary struct {
	// StoreID identifies the store. A backup has the same.
	StoreID string
	kv.Totals
	// Bytes and SHA256 are size and digest of the file, if nobody writes to it.
	Bytes  int64
	SHA256 [sha256.Size]byte
}

// Summarize reads the summary that the database has of itself.
func Summarize(db *gorm.DB) (Summary, error) {
	var found Summary
	err := db.Raw("SELECT uuid, revision, total_keys, total_versions FROM store").Row().
		Scan(&found.StoreID, &found.Revision, &found.Keys, &found.Versions)
	return found, err
}

// Verify reads and checks all of a database, and summarizes it. It fails if a row does not match its
// checksum (the error names the key and the version), if a key lacks a version, or if the counters
// are wrong.
func Verify(ctx context.Context, from Source) (found Summary, err error) {
	err = from(ctx, func(tx *gorm.DB) error {
		if found, err = Summarize(tx); err != nil {
			return err
		}
		damage, err := CheckRows(tx)
		if err != nil {
			return err
		}
		return errors.Join(damage.Err(), CheckCounts(tx, found.Totals)) // the rows first: their errors have names
	})
	return found, err
}

// CheckCounts compares the counters with the rows, and each key with its latest version.
func CheckCounts(db *gorm.DB, totals kv.Totals) error {
	var keys, versions, sum, strays, highest int64
	err := db.Raw(`SELECT (SELECT count(*) FROM keys WHERE NOT deleted),
			(SELECT count(*) FROM versions WHERE NOT destroyed),
			(SELECT coalesce(sum(total_versions), 0) FROM keys),
			(SELECT count(*) FROM keys LEFT JOIN versions ON versions.revision = keys.revision
				WHERE versions.key_id IS DISTINCT FROM keys.id OR versions.version IS DISTINCT FROM keys.version),
			(SELECT coalesce(max(revision), 0) FROM versions)`).Row().Scan(&keys, &versions, &sum, &strays, &highest)
	if err != nil {
		return err
	}
	for _, count := range []struct {
		what         string
		counter, row int64
	}{
		{"keys", totals.Keys, keys}, {"versions", totals.Versions, versions}, {"versions of all keys", sum, versions},
	} {
		if count.counter != count.row {
			return fmt.Errorf("the database is damaged: it counts %d %s and has %d", count.counter, count.what, count.row)
		}
	}
	switch {
	case strays != 0:
		return fmt.Errorf("the database is damaged: %d keys lack their latest version", strays)
	case highest > totals.Revision:
		return fmt.Errorf("the database is damaged: it is at revision %d and has revision %d", totals.Revision, highest)
	}
	return nil
}

// namedDamage is the largest number of damaged rows that are named.
const namedDamage = 20

// RowDamage is the result of CheckRows.
type RowDamage struct {
	All   int64    // the number of damaged rows
	Named []string // the first of them
}

func (d *RowDamage) add(err error) {
	if d.All++; len(d.Named) < namedDamage {
		d.Named = append(d.Named, err.Error())
	}
}

// Err returns nil if no row is damaged.
func (d *RowDamage) Err() error {
	if d.All == 0 {
		return nil
	}
	more := ""
	if n := d.All - int64(len(d.Named)); n > 0 {
		more = fmt.Sprintf("\nand %d more", n)
	}
	return fmt.Errorf("the database is damaged; rows that are not what was written: %d\n%s%s",
		d.All, strings.Join(d.Named, "\n"), more)
}

// CheckRows compares every row with its checksum, and each key with the number of its versions.
// The error is that of a database which cannot be read.
func CheckRows(db *gorm.DB) (*RowDamage, error) {
	found := &RowDamage{}
	if _, err := readTotals(db); err != nil {
		if !errors.Is(kindOf(db, err), kv.ErrCorrupt) {
			return nil, err
		}
		found.add(err)
	}
	for _, check := range []func(*gorm.DB, *RowDamage) error{checkKeys, checkVersions, checkErased} {
		if err := check(db, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func checkVersions(db *gorm.DB, found *RowDamage) error {
	rows, err := db.Raw("SELECT " + entryColumns + `
		FROM versions LEFT JOIN keys ON keys.id = versions.key_id ORDER BY versions.revision`).Rows()
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	last := int64(0)
	for rows.Next() {
		var v storedVersion
		err := rows.Scan(v.entryFields()...)
		if err == nil {
			err = v.checkAll()
		} else {
			err = lostRevision(last+1, err.Error())
		}
		if err != nil {
			found.add(err)
		}
		last = max(v.Revision, last+1)
	}
	return rows.Err()
}

func checkKeys(db *gorm.DB, found *RowDamage) error {
	rows, err := db.Raw("SELECT " + keyRowColumns + `,
			(SELECT count(*) FROM versions WHERE key_id = keys.id AND version >= complete_from) FROM keys ORDER BY id`).Rows()
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for rows.Next() {
		var k storedKey
		var versions int64
		err := rows.Scan(append(k.fields(), &versions)...)
		if err == nil {
			err = k.check()
		} else {
			err = damaged(k.key, 0, err.Error())
		}
		if must := k.head.Version - max(k.head.CompleteFrom, 1) + 1; err == nil && versions != must {
			err = damaged(k.key, 0, fmt.Sprintf("it has %d versions from %d on and must have %d",
				versions, max(k.head.CompleteFrom, 1), must))
		}
		if err != nil {
			found.add(err)
		}
	}
	return rows.Err()
}

func checkErased(db *gorm.DB, found *RowDamage) error {
	rows, err := db.Raw("SELECT " + erasedColumns + " FROM erased").Rows()
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for rows.Next() {
		var e storedErased
		err := rows.Scan(e.fields()...)
		if err == nil {
			err = e.check()
		}
		if err != nil {
			found.add(err)
		}
	}
	return rows.Err()
}
