package database

import (
	"crypto/sha256"
	"database/sql"
	"errors"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"kvstore/backend/kv"
)

// These bound what one transaction erases, and so how long others wait for it: whole
// rows, values of rows that stay, and the bytes of both, which one more value may exceed.
const (
	erasedRows   = 1000
	erasedValues = 128
	erasedBytes  = 4 << 20
)

// Destroy erases the values of those versions of a stored key for good, in their order
// and as many as one transaction should. It returns the versions that are left to do. Those
// that are not there are skipped. The bytes are out of the write-ahead log only after Scrub.
//
// The members of a version that stay are checked, its value is not: a version with a
// damaged value can be destroyed.
func (t *Tx) Destroy(key string, versions []int64) (left []int64, err error) {
	if err := t.direct(); err != nil {
		return nil, err
	}
	k, err := t.load(key)
	if err != nil {
		return nil, err
	}
	t.wrote = true
	left = versions
	destroyed := int64(0)
	for bytes := int64(0); len(left) > 0 && bytes < erasedBytes && destroyed < erasedValues; left = left[1:] {
		v, found, err := t.describe(key, left[0])
		if err != nil {
			return nil, err
		}
		if !found || v.Destroyed || v.Operation.Tombstone() {
			continue
		}
		bytes += v.size
		v.Destroyed = true
		err = t.tx.Exec("UPDATE versions SET value = ?, destroyed = true, checksums = ? WHERE revision = ?",
			[]byte{}, checksumsOf(&v.Entry), v.Revision).Error
		if err != nil {
			return nil, Translate(t.tx, "destroy a version", err)
		}
		destroyed++
	}
	if done := versions[:len(versions)-len(left)]; len(done) > 0 {
		k.loss = &Loss{Key: key, Versions: done}
	}
	t.Totals.Versions -= destroyed
	k.head.TotalVersions -= destroyed
	return left, t.saveHeads([]*loadedKey{k})
}

// tombstones are the operations that leave no value.
var tombstones = []kv.Operation{kv.OpDelete, kv.OpExpire, kv.OpDestroy}

// Erase removes the versions of a key up to that one, the oldest first and as many as one
// transaction should, and reports whether that is all. When the last of them is the
// latest, a tombstone, the key goes too, and nothing is remembered but a digest of its name
// and how far it had counted. The bytes are out of the write-ahead log only after Scrub.
// Damaged versions go like others.
func (t *Tx) Erase(key string, through int64) (done bool, err error) {
	if err := t.direct(); err != nil {
		return false, err
	}
	k, err := t.load(key)
	if err != nil || k.head.ID == 0 {
		return err == nil, err
	}
	t.wrote, k.loss = true, &Loss{Key: key, End: k.end}
	head := &k.head
	last, readable, err := t.oldest(key, head, through)
	if err == nil && last > 0 {
		err = t.tx.Exec("DELETE FROM versions WHERE key_id = ? AND version <= ?", head.ID, last).Error
	}
	if err != nil {
		return false, Translate(t.tx, "erase versions", err)
	}
	if done = last >= through; done && through == head.Version {
		return true, Translate(t.tx, "erase a key", t.eraseHead(k))
	}
	readable = min(readable, head.TotalVersions) // damaged rows may tell too many
	t.Totals.Versions -= readable
	head.TotalVersions -= readable
	head.CompleteFrom = max(head.CompleteFrom, last+1)
	return done, t.saveHeads([]*loadedKey{k})
}

// oldest returns the last of the oldest versions of a key that one transaction should
// erase, through when there are no more up to that one, and how many of them have a value.
// It notes in head that they are gone.
func (t *Tx) oldest(key string, head *Head, through int64) (last, readable int64, err error) {
	rows, err := t.tx.Raw("SELECT version, revision, destroyed, length(value) FROM versions WHERE key_id = ? AND version <= ? ORDER BY version LIMIT ?",
		head.ID, through, erasedRows).Rows()
	if err != nil {
		return 0, 0, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	next, found := max(head.CompleteFrom, 1), 0
	for bytes := int64(0); bytes < erasedBytes && rows.Next(); found++ {
		var revision, size int64
		var destroyed bool
		if err := rows.Scan(&last, &revision, &destroyed, &size); err != nil {
			return 0, 0, translateRow(t.tx, "erase versions", err, key, 0)
		}
		if last > next {
			return 0, 0, damaged(key, next, missingVersion)
		}
		next = max(next, last+1)
		if bytes += size; !destroyed {
			readable++
		}
		head.Pruned = max(head.Pruned, min(revision, head.Revision))
	}
	if found == 0 {
		if next <= through {
			err = damaged(key, next, missingVersion)
		}
		last = through
	}
	t.Totals.Compacted = max(t.Totals.Compacted, head.Pruned)
	return last, readable, errors.Join(err, rows.Err())
}

// eraseHead removes the row of a key that has no version left.
func (t *Tx) eraseHead(k *loadedKey) error {
	head, sum := k.head, digest(k.name)
	if err := t.tx.Exec("DELETE FROM keys WHERE id = ?", head.ID).Error; err != nil {
		return err
	}
	t.Totals.Versions -= head.TotalVersions
	t.Totals.Compacted = max(t.Totals.Compacted, head.Revision)
	t.Totals.Forgotten = max(t.Totals.Forgotten, head.Revision)
	k.head, k.stored, k.changed = Head{Version: head.Version}, false, true
	return t.tx.Clauses(clause.OnConflict{
		Columns: []clause.Column{{Name: "digest"}}, DoUpdates: clause.AssignmentColumns([]string{"version", "checksum"}),
	}).Create(&erasedRow{Digest: sum, Version: head.Version, Checksum: erasedChecksum(sum, head.Version)}).Error
}

// digest is what is left of the name of an erased key.
func digest(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}

// erasedVersion returns how far an erased key had counted, 0 for any other.
func erasedVersion(tx *gorm.DB, key string) (int64, error) {
	var e storedErased
	err := tx.Raw("SELECT "+erasedColumns+" FROM erased WHERE digest = ?", digest(key)).Row().Scan(e.fields()...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return 0, nil
	case err == nil && e.check() != nil:
		err = damagedErased(key)
	}
	return e.version, translateRow(tx, "look for an erased key", err, key, 0)
}

func damagedErased(key string) error {
	return damaged(key, 0, "how far it had counted before it was erased")
}
