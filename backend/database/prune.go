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

const prunableSQL = "SELECT " + versionColumns + `, NULL FROM versions
	WHERE unlikely(key_id = ?) AND version < ? AND (version <= ? OR timestamp < ?) ORDER BY version LIMIT ?`

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
		rows, err := tx.prunable(key, head, r, limit)
		if err != nil || len(rows) == 0 {
			return translate(ctx, "find versions that may go", err)
		}
		pruned = len(rows)
		return tx.remove(key, head, rows)
	})
	return pruned, err
}

// prunable returns checked versions that may go. One that is damaged is an error, since
// its time may be what is damaged.
func (t *Tx) prunable(key string, head Head, r Retention, limit int) ([]storedVersion, error) {
	found, err := t.tx.Raw(prunableSQL, head.ID, head.Version, head.Version-r.maxVersions(), int64(r.Before), limit).Rows()
	if err != nil {
		return nil, err
	}
	defer found.Close() //nolint:errcheck // found.Err has told
	var rows []storedVersion
	for found.Next() {
		v := storedVersion{Entry: kv.Entry{Key: key}}
		if err := found.Scan(v.fields()...); err != nil {
			return nil, scanned(err, key, v.Version)
		}
		if err := v.check(); err != nil {
			return nil, err
		}
		rows = append(rows, v)
	}
	return rows, found.Err()
}

// remove deletes versions of a key, the oldest, in their order, and counts them out.
func (t *Tx) remove(key string, head Head, rows []storedVersion) error {
	t.uncertain = append(t.uncertain, key)
	t.wrote = true // the counters may stay as they are: destroyed versions are counted out already
	readable := int64(0)
	for _, row := range rows {
		if !row.Destroyed {
			readable++
		}
	}
	last := rows[len(rows)-1]
	result := t.tx.Exec("DELETE FROM versions WHERE unlikely(key_id = ?) AND version <= ?", head.ID, last.Version)
	err := result.Error
	if err == nil && result.RowsAffected != int64(len(rows)) {
		err = damaged(key, last.Version, "the history is not in the order of its times")
	}
	if err != nil {
		return translate(t.tx.Statement.Context, "delete versions", err)
	}
	t.Totals.Versions -= readable
	t.Totals.Compacted = max(t.Totals.Compacted, last.Revision)
	head.TotalVersions -= readable
	head.CompleteFrom = max(head.CompleteFrom, last.Version+1)
	head.Pruned = max(head.Pruned, last.Revision)
	return translate(t.tx.Statement.Context, "save the number of versions", t.saveHead(key, head))
}
