package database

import (
	"context"

	"kvstore/backend/kv"
)

const (
	latestSQL = `SELECT keys.key, versions.version, versions.revision, versions.timestamp, versions.value
		FROM keys JOIN versions ON versions.revision = keys.revision
		WHERE keys.key = ?`
	versionSQL = `SELECT keys.key, versions.version, versions.revision, versions.timestamp, versions.value
		FROM keys JOIN versions ON versions.key_id = keys.id
		WHERE keys.key = ? AND versions.version = ?`
	totalsSQL = `SELECT revision, total_keys AS keys, total_versions AS versions, ` + sizeSQL + ` AS bytes FROM store`
)

// Latest returns the latest version of key, or kv.ErrKeyNotFound.
func (db *DB) Latest(ctx context.Context, key string) (kv.Entry, error) {
	entry, found, err := db.entry(ctx, latestSQL, key)
	if err == nil && !found {
		err = kv.KeyNotFound(key)
	}
	return entry, err
}

// Version returns that version of key, kv.ErrVersionGone when it was removed, or
// kv.ErrVersionNotFound.
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
	var row entryRow
	result := db.readers.WithContext(ctx).Raw(query, args...).Scan(&row)
	if result.Error != nil {
		return kv.Entry{}, false, translate(ctx, "read an entry", result.Error)
	}
	return row.entry(), result.RowsAffected > 0, nil
}

// Stats returns the counters and the size, in constant time.
func (db *DB) Stats(ctx context.Context) (kv.DatabaseStats, error) {
	var stats kv.DatabaseStats
	err := db.readers.WithContext(ctx).Raw(totalsSQL).Scan(&stats).Error
	return stats, translate(ctx, "read statistics", err)
}
