package database

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// A Summary says what a database file holds.
type Summary struct {
	// StoreID identifies the store. A backup has that of the database it was made of.
	StoreID string
	kv.Totals
	// Bytes is the size of the file, and SHA256 its digest. They are known of a file that
	// nobody writes to.
	Bytes  int64
	SHA256 [sha256.Size]byte
}

// Verify reads the file at path, which may be a database or a backup, from beginning
// to end, and says what it holds. It returns an error when the file is no database of
// this program, has a schema of another version, or is not sound: SQLite's
// integrity check finds something, a key points at a version that it does not have, or
// the counters are not what counting the rows gives, or a row does not have its checksum:
// then the error names the key and the version.
func Verify(ctx context.Context, path string) (Summary, error) {
	if err := refuseNoFile(path); err != nil {
		return Summary{}, err
	}
	var found Summary
	err := withReader(path, func(db *gorm.DB) (err error) {
		db = db.WithContext(ctx)
		switch file, err := checkFile(db); {
		case err != nil:
			return err
		case file.isNew:
			return errors.New("it is empty: it holds no store")
		}
		// One transaction: a live database goes on while it is read.
		return db.Transaction(func(tx *gorm.DB) error {
			found, err = verifyRows(tx)
			return err
		})
	})
	if err != nil {
		return Summary{}, fmt.Errorf("%s: %w", path, err)
	}
	return found, nil
}

func verifyRows(db *gorm.DB) (Summary, error) {
	found, err := summarize(db)
	if err != nil {
		return found, fmt.Errorf("it holds no store of this program: %w", err)
	}
	if err := check(db, "integrity_check"); err != nil {
		return found, err
	}
	damage, err := checkRows(db)
	if err != nil {
		return found, err
	}
	// The counts after the rows: a row that is damaged has a name.
	return found, errors.Join(damage.err(), checkCounts(db, found.Totals))
}

// summarize reads what the file says of itself.
func summarize(db *gorm.DB) (Summary, error) {
	var found Summary
	columns := "revision, total_keys, total_versions"
	err := db.Raw("SELECT uuid, "+columns+" FROM store").Row().Scan(&found.StoreID, &found.Revision, &found.Keys, &found.Versions)
	return found, err
}

// checkCounts counts what the counters say.
func checkCounts(db *gorm.DB, totals kv.Totals) error {
	var keys, versions, sum, strays, highest int64
	err := db.Raw(`SELECT (SELECT count(*) FROM keys WHERE NOT deleted),
			(SELECT count(*) FROM versions WHERE NOT destroyed),
			(SELECT coalesce(sum(total_versions), 0) FROM keys),
			(SELECT count(*) FROM keys LEFT JOIN versions ON versions.revision = keys.revision
				WHERE versions.key_id IS NOT keys.id OR versions.version IS NOT keys.version),
			(SELECT coalesce(max(revision), 0) FROM versions)`).Row().Scan(&keys, &versions, &sum, &strays, &highest)
	if err != nil {
		return unsound(err)
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
	var orphan any
	err = db.Raw("SELECT rowid FROM pragma_foreign_key_check LIMIT 1").Row().Scan(&orphan)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		err = errors.New("the database is damaged: a version belongs to no key")
	}
	return err
}

// verifyWhole is Verify for a file that nobody has open. (To close a file that SQLite has
// open in this process would take its locks away.)
func verifyWhole(ctx context.Context, path string) (Summary, error) {
	found, err := Verify(ctx, path)
	if err != nil {
		return Summary{}, err
	}
	file, err := os.Open(path)
	if err != nil {
		return Summary{}, err
	}
	defer file.Close()
	found.Bytes, found.SHA256, err = digestReader(file)
	return found, err
}

func digestReader(r io.Reader) (bytes int64, digest [sha256.Size]byte, err error) {
	hash := sha256.New()
	bytes, err = io.Copy(hash, r)
	hash.Sum(digest[:0])
	return bytes, digest, err
}
