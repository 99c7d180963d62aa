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
//
// The members of a version that stay are checked, its value is not: a version with a
// damaged value can be destroyed.
func (t *Tx) Destroy(key string, versions []int64) (int64, error) {
	heads, err := t.Heads([]string{key})
	if err != nil {
		return 0, err
	}
	t.wrote, t.uncertain = true, append(t.uncertain, key)
	head := heads[key]
	var destroyed int64
	for _, version := range versions {
		entry, found, err := t.Described(key, head.ID, version)
		if err != nil {
			return 0, err
		}
		if !found || entry.Destroyed || entry.Operation.Tombstone() {
			continue
		}
		entry.Destroyed = true
		err = t.tx.Exec("UPDATE versions SET value = x'', destroyed = true, checksums = ? WHERE unlikely(revision = ?)",
			checksumsOf(&entry), entry.Revision).Error
		if err != nil {
			return 0, translate(t.tx.Statement.Context, "destroy a version", err)
		}
		destroyed++
	}
	t.Totals.Versions -= destroyed
	head.TotalVersions -= destroyed
	return destroyed, translate(t.tx.Statement.Context, "save the number of versions", t.saveHead(key, head))
}

// tombstones are the operations that leave no value.
var tombstones = []kv.Operation{kv.OpDelete, kv.OpExpire, kv.OpDestroy}

// Erase removes a key that is deleted and its whole history, and remembers nothing
// but a digest of its name and how far it had counted. The bytes are out of the
// write-ahead log only after Scrub.
func (t *Tx) Erase(key string, head Head) error {
	t.wrote, t.uncertain = true, append(t.uncertain, key)
	ctx := t.tx.Statement.Context
	result := t.tx.Exec("DELETE FROM versions WHERE unlikely(key_id = ?)", head.ID)
	err := result.Error
	if lowest := max(head.CompleteFrom, 1); err == nil && result.RowsAffected < head.Version-lowest+1 {
		err = damaged(key, 0, "versions of it are not found")
	}
	if err == nil {
		err = t.tx.Exec("DELETE FROM keys WHERE unlikely(id = ?)", head.ID).Error
	}
	if sum := digest(key); err == nil {
		err = t.tx.Clauses(clause.OnConflict{
			Columns: []clause.Column{{Name: "digest"}}, DoUpdates: clause.AssignmentColumns([]string{"version", "checksum"}),
		}).Create(&erasedRow{Digest: sum, Version: head.Version, Checksum: erasedChecksum(sum, head.Version)}).Error
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

// noteErased learns whether any key was erased.
func (db *DB) noteErased(ctx context.Context) error {
	var some bool
	err := db.writer.WithContext(ctx).Raw("SELECT EXISTS (SELECT 1 FROM erased)").Scan(&some).Error
	if some {
		db.erased.Store(true)
	}
	return translate(ctx, "look for erased keys", err)
}
