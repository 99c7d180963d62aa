package database

import (
	"context"

	"kvstore/backend/kv"
)

// A Retention says which versions may go. The latest version of a key never may.
type Retention struct {
	// MaxVersions is how many of the newest versions of a key stay; 0 means all.
	MaxVersions int64
	// Before lets versions go that were written earlier; 0 means none.
	Before kv.Timestamp
}

// A Prunable is a key that has versions which may go.
type Prunable struct {
	ID  int64
	Key string
}

// candidatesSQL finds keys whose oldest version may go. Versions go from the oldest
// on, and their times do not run backwards, so the oldest tells enough.
const candidatesSQL = `SELECT keys.id, keys.key FROM keys JOIN versions ON versions.key_id = keys.id
		AND versions.version = (SELECT min(version) FROM versions WHERE key_id = keys.id)
	WHERE keys.id > ? AND versions.version < keys.version
		AND (versions.version <= keys.version - ? OR versions.timestamp < ?)
	ORDER BY keys.id LIMIT ?`

const pruneSQL = `DELETE FROM versions WHERE revision IN (
		SELECT revision FROM versions WHERE key_id = ? AND version < ? AND (version <= ? OR timestamp < ?)
		ORDER BY version LIMIT ?)`

// keepAll is more versions than a key can have.
const keepAll = 1 << 62

func (r Retention) maxVersions() int64 {
	if r.MaxVersions == 0 {
		return keepAll
	}
	return r.MaxVersions
}

// Prunables returns keys with versions that may go, in the order of their ids, from
// the one behind after on, and at most limit.
func (db *DB) Prunables(ctx context.Context, r Retention, after int64, limit int) ([]Prunable, error) {
	var found []Prunable
	err := db.readers.WithContext(ctx).Raw(candidatesSQL, after, r.maxVersions(), int64(r.Before), limit).Scan(&found).Error
	return found, translate(ctx, "find versions that may go", err)
}

// Prune deletes the oldest versions of key that may go, at most limit, in one
// transaction, and returns how many those were. Their numbers are not used again.
func (db *DB) Prune(ctx context.Context, key string, r Retention, limit int) (pruned int, err error) {
	err = db.Update(ctx, func(tx *Tx) error {
		heads, err := tx.Heads([]string{key})
		if err != nil {
			return err
		}
		head := heads[key]
		result := tx.tx.Exec(pruneSQL, head.ID, head.Version, head.Version-r.maxVersions(), int64(r.Before), limit)
		if result.Error != nil {
			return translate(ctx, "delete versions", result.Error)
		}
		pruned = int(result.RowsAffected)
		tx.Totals.Versions -= int64(pruned)
		err = tx.tx.Exec("UPDATE keys SET total_versions = total_versions - ? WHERE id = ?", pruned, head.ID).Error
		return translate(ctx, "save the number of versions", err)
	})
	return pruned, err
}
