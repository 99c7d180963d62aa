package database

import (
	"context"
	"crypto/sha256"

	"gorm.io/gorm/clause"

	"kvstore/backend/kv"
)

// Destroy erases the values of those versions of a stored key for good and returns
// how many had one. Versions that are not there are left out. The bytes are out of the
// write-ahead log only after Scrub.
func (t *Tx) Destroy(key string, head Head, versions []int64) (int64, error) {
	t.wrote, t.uncertain = true, append(t.uncertain, key)
	var destroyed int64
	for _, version := range versions {
		result := t.tx.Exec(`UPDATE versions SET value = x'', destroyed = true
			WHERE key_id = ? AND version = ? AND NOT destroyed AND operation NOT IN ?`, head.ID, version, tombstones)
		if result.Error != nil {
			return 0, translate(t.tx.Statement.Context, "destroy a version", result.Error)
		}
		destroyed += result.RowsAffected
	}
	t.Totals.Versions -= destroyed
	err := t.tx.Exec("UPDATE keys SET total_versions = total_versions - ? WHERE id = ?", destroyed, head.ID).Error
	return destroyed, translate(t.tx.Statement.Context, "save the number of versions", err)
}

// tombstones are the operations that leave no value.
var tombstones = []kv.Operation{kv.OpDelete, kv.OpExpire, kv.OpDestroy}

// Erase removes a key that is deleted and its whole history, and remembers nothing
// but a digest of its name and how far it had counted. The bytes are out of the
// write-ahead log only after Scrub.
func (t *Tx) Erase(key string, head Head) error {
	t.wrote, t.uncertain = true, append(t.uncertain, key)
	ctx := t.tx.Statement.Context
	err := t.tx.Exec("DELETE FROM versions WHERE key_id = ?", head.ID).Error
	if err == nil {
		err = t.tx.Exec("DELETE FROM keys WHERE id = ?", head.ID).Error
	}
	if err == nil {
		err = t.tx.Clauses(clause.OnConflict{
			Columns: []clause.Column{{Name: "digest"}}, DoUpdates: clause.AssignmentColumns([]string{"version"}),
		}).Create(&erasedRow{Digest: digest(key), Version: head.Version}).Error
	}
	if err != nil {
		return translate(ctx, "erase a key", err)
	}
	t.erased = true
	t.Totals.Versions -= head.TotalVersions
	t.Totals.Compacted = max(t.Totals.Compacted, head.Revision)
	return nil
}

// digest is what is left of the name of an erased key.
func digest(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}

// addErased adds to heads those of keys that are not stored because they were
// erased.
func (t *Tx) addErased(heads map[string]Head, keys []string) error {
	if !t.erased {
		return nil
	}
	for _, key := range keys {
		if _, stored := heads[key]; stored {
			continue
		}
		var version int64
		err := t.tx.Raw("SELECT version FROM erased WHERE digest = ?", digest(key)).Scan(&version).Error
		if err != nil {
			return translate(t.tx.Statement.Context, "look for an erased key", err)
		}
		if version > 0 {
			heads[key] = Head{Version: version}
		}
	}
	return nil
}

// noteErased learns whether any key was erased.
func (db *DB) noteErased(ctx context.Context) error {
	var some bool
	err := db.writer.WithContext(ctx).Raw("SELECT EXISTS (SELECT 1 FROM erased)").Scan(&some).Error
	if some {
		db.erased.Store(true)
	}
	return translate(ctx, "look for erased keys", err)
}
