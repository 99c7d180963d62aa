package database

import (
	"context"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

const (
	// latestSQL has a row for a key whose version is not where it must be, too.
	latestSQL  = "SELECT " + entryColumns + " FROM keys LEFT JOIN versions ON " + sameVersion + " WHERE keys.key = ?"
	versionSQL = "SELECT " + entryColumns + ` FROM keys JOIN versions ON versions.key_id = keys.id
		WHERE keys.key = ? AND versions.version = ?`
)

// Latest returns the latest version of key, which may be a tombstone, or
// kv.ErrKeyNotFound.
func (db *DB) Latest(ctx context.Context, key string) (entry kv.Entry, err error) {
	defer db.count(&err)
	entry, found, err := findEntry(db.readers.WithContext(ctx), key, 0, latestSQL, key)
	if err == nil && !found {
		err = kv.KeyNotFound(key)
	}
	return entry, err
}

// Version returns that version of key, which may be a tombstone or destroyed,
// kv.ErrVersionGone when it was removed, or kv.ErrVersionNotFound.
func (db *DB) Version(ctx context.Context, key string, version int64) (entry kv.Entry, err error) {
	defer db.count(&err)
	entry, found, err := findEntry(db.readers.WithContext(ctx), key, version, versionSQL, key, version)
	if err != nil || found {
		return entry, err
	}
	err = db.snapshot(ctx, func(tx *gorm.DB) error {
		entry, err = explained(tx, key, version)
		return err
	})
	return entry, err
}

// explained returns why there is no such version. In its snapshot there may be one.
func explained(tx *gorm.DB, key string, version int64) (kv.Entry, error) {
	head, found, err := findKey(tx, key)
	switch {
	case err != nil:
		return kv.Entry{}, err
	case !found: // it may have been erased
		if head.Version, err = erasedVersion(tx, key); err == nil {
			if err = kv.VersionNotFound(key, version); version <= head.Version {
				err = kv.VersionGone(key, version)
			}
		}
		return kv.Entry{}, err
	case version > head.Version:
		return kv.Entry{}, kv.VersionNotFound(key, version)
	case version < head.CompleteFrom:
		return kv.Entry{}, kv.VersionGone(key, version)
	}
	entry, found, err := findEntry(tx, key, version, versionSQL, key, version)
	if err == nil && !found {
		err = damaged(key, version, missingVersion)
	}
	return entry, err
}

// Stats returns the counters and the size, in constant time.
func (db *DB) Stats(ctx context.Context) (stats kv.DatabaseStats, err error) {
	defer db.count(&err)
	tx := db.readers.WithContext(ctx)
	_, stats.Totals, stats.Bytes, err = readStore(tx, db.SizeSQL())
	return stats, Translate(tx, "read statistics", err)
}

// LastWrite returns the time of the last version that was written, 0 for an empty
// store. When its row is damaged it is that of the last one which is not.
func (db *DB) LastWrite(ctx context.Context) (kv.Timestamp, error) {
	tx := db.readers.WithContext(ctx)
	last, err := lastWrite(tx)
	return last, Translate(tx, "read the time of the last write", err)
}

func lastWrite(tx *gorm.DB) (kv.Timestamp, error) {
	rows, err := tx.Raw("SELECT " + describedColumns + ` FROM versions
		LEFT JOIN keys ON keys.id = versions.key_id ORDER BY versions.revision DESC LIMIT 1000`).Rows()
	if err != nil {
		return 0, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for rows.Next() {
		var v storedVersion
		if err := rows.Scan(v.entryFields()...); err == nil && v.check() == nil {
			return v.Time, nil
		}
	}
	return 0, rows.Err()
}
