package database

import (
	"context"
	"database/sql"
	"errors"

	"kvstore/backend/kv"
)

const (
	latestSQL = "SELECT " + entryColumns + ` FROM keys JOIN versions ON versions.revision = keys.revision
		WHERE keys.key = ?`
	versionSQL = "SELECT " + entryColumns + ` FROM keys JOIN versions ON versions.key_id = keys.id
		WHERE keys.key = ? AND versions.version = ?`
	totalsSQL = "SELECT " + totalsColumns + ", " + sizeSQL + " AS bytes FROM store"
	// totalsColumns are those of kv.Totals.
	totalsColumns = "revision, total_keys AS keys, total_versions AS versions, compacted"
)

// Latest returns the latest version of key, which may be a tombstone, or
// kv.ErrKeyNotFound.
func (db *DB) Latest(ctx context.Context, key string) (kv.Entry, error) {
	entry, found, err := db.entry(ctx, latestSQL, key)
	if err == nil && !found {
		err = kv.KeyNotFound(key)
	}
	return entry, err
}

// Version returns that version of key, which may be a tombstone or destroyed,
// kv.ErrVersionGone when it was removed, or kv.ErrVersionNotFound.
func (db *DB) Version(ctx context.Context, key string, version int64) (kv.Entry, error) {
	entry, found, err := db.entry(ctx, versionSQL, key, version)
	if err != nil || found {
		return entry, err
	}
	return kv.Entry{}, db.whyNoVersion(ctx, key, version)
}

func (db *DB) whyNoVersion(ctx context.Context, key string, version int64) error {
	var latest int64
	err := db.readers.WithContext(ctx).Raw("SELECT version FROM keys WHERE keys.key = ?", key).Scan(&latest).Error
	switch {
	case err != nil:
		return translate(ctx, "read the latest version", err)
	case version <= latest:
		return kv.VersionGone(key, version)
	default:
		return kv.VersionNotFound(key, version)
	}
}

func (db *DB) entry(ctx context.Context, query string, args ...any) (kv.Entry, bool, error) {
	entry, found, err := scanEntry(db.readers.WithContext(ctx).Raw(query, args...).Row())
	return entry, found, translate(ctx, "read an entry", err)
}

// scanEntry reads a row of entryColumns, if there is one. GORM's own Scan costs more
// than the read: it learns the columns and their fields anew each time.
func scanEntry(row *sql.Row) (kv.Entry, bool, error) {
	if row == nil { // GORM gives none when it did not get as far as the database
		return kv.Entry{}, false, errors.New("the query was not made")
	}
	var r entryRow
	err := row.Scan(&r.Key, &r.Version, &r.Revision, &r.Timestamp, &r.Operation,
		&r.ContentType, &r.Author, &r.ExpiresAt, &r.Destroyed, &r.Value)
	if errors.Is(err, sql.ErrNoRows) {
		return kv.Entry{}, false, nil
	}
	return r.entry(), err == nil, err
}

// Stats returns the counters and the size, in constant time.
func (db *DB) Stats(ctx context.Context) (kv.DatabaseStats, error) {
	var stats kv.DatabaseStats
	err := db.readers.WithContext(ctx).Raw(totalsSQL).Scan(&stats).Error
	return stats, translate(ctx, "read statistics", err)
}

// LastWrite returns the time of the last version that was written, 0 for an empty
// store.
func (db *DB) LastWrite(ctx context.Context) (kv.Timestamp, error) {
	var last int64
	err := db.readers.WithContext(ctx).Raw("SELECT timestamp FROM versions ORDER BY revision DESC LIMIT 1").Scan(&last).Error
	return kv.Timestamp(last), translate(ctx, "read the time of the last write", err)
}
