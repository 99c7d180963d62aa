package database

import (
	"context"

	"kvstore/backend/kv"
)

// atSQL finds the last version of a key up to a time. Its numbers have no gap from the
// oldest on and their times do not run backwards, so it halves the range, by the
// index that versions have anyway. In each step the version is above low and at
// most high, or low itself when it is one that was found.
const atSQL = `WITH RECURSIVE
	bounds(id, key, low, high) AS (
		SELECT id, key, (SELECT min(version) FROM versions WHERE key_id = keys.id) - 1, version FROM keys WHERE key = ?
	),
	search(id, low, high) AS (
		SELECT id, low, high FROM bounds
		UNION ALL
		SELECT search.id, CASE WHEN timestamp <= ? THEN version ELSE low END,
			CASE WHEN timestamp <= ? THEN high ELSE version - 1 END
		FROM search CROSS JOIN versions ON key_id = search.id AND version = (low + high + 1) / 2
		WHERE low < high
	)
	SELECT bounds.low AS removed, ` + entryAtColumns + `
	FROM bounds CROSS JOIN search LEFT JOIN versions ON versions.key_id = bounds.id AND versions.version = search.low
	WHERE search.low = search.high`

const entryAtColumns = "bounds.key, " + versionColumns + ", versions.value"

// At returns the version of key that was the latest at that time: the last whose
// timestamp is not later. It may be a tombstone or destroyed. Without one the error is
// kv.ErrKeyNotFound, kv.ErrVersionNotFound, or kv.ErrVersionGone when the versions
// of that time were removed. It takes a number of steps that is the logarithm of that
// of the versions.
func (db *DB) At(ctx context.Context, key string, at kv.Timestamp) (kv.Entry, error) {
	var row struct {
		Removed int64    // the highest version that was removed
		Entry   entryRow `gorm:"embedded"`
	}
	result := db.readers.WithContext(ctx).Raw(atSQL, key, int64(at), int64(at)).Scan(&row)
	switch {
	case result.Error != nil:
		return kv.Entry{}, translate(ctx, "search a history", result.Error)
	case result.RowsAffected == 0:
		return kv.Entry{}, kv.KeyNotFound(key)
	case row.Entry.Version > 0:
		return row.Entry.entry(), nil
	case row.Removed > 0:
		return kv.Entry{}, kv.VersionGoneAt(key, at)
	default:
		return kv.Entry{}, kv.VersionNotYet(key, at)
	}
}
