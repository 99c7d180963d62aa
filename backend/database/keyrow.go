package database

import (
	"database/sql"
	"errors"
	"fmt"

	"gorm.io/gorm"
)

// keyRowColumns are those of a scanned key.
const keyRowColumns = `keys.id, keys.key, keys.version, keys.revision, keys.timestamp, keys.total_versions,
	keys.deleted, keys.expires_at, keys.complete_from, keys.pruned, keys.checksum`

// A storedKey is a key as its row tells it, to be believed after check.
type storedKey struct {
	key      string
	head     Head
	checksum int64
}

func (k *storedKey) fields() []any {
	h := &k.head
	return []any{
		&h.ID, &k.key, &h.Version, &h.Revision, &h.Time, &h.TotalVersions,
		&h.Deleted, &h.Expires, &h.CompleteFrom, &h.Pruned, &k.checksum,
	}
}

// check returns kv.ErrCorrupt unless the row is what was written.
func (k *storedKey) check() error {
	if got := keyChecksum(k.key, k.head); got != k.checksum {
		return damaged(k.key, 0, fmt.Sprintf("its row has the checksum %08x, what is read has %08x", uint32(k.checksum), uint32(got)))
	}
	return nil
}

// findKey returns the head of a key and whether there is that key.
func findKey(tx *gorm.DB, key string) (Head, bool, error) {
	ctx := tx.Statement.Context
	var k storedKey
	err := tx.Raw("SELECT "+keyRowColumns+" FROM keys WHERE unlikely(key = ?)", key).Row().Scan(k.fields()...)
	if errors.Is(err, sql.ErrNoRows) {
		return Head{}, false, nil
	}
	if err == nil && k.key != key {
		err = damaged(key, 0, "the index leads to the key '"+k.key+"'")
	}
	if err == nil {
		err = k.check()
	}
	return k.head, err == nil, translate(ctx, "read a key", scanned(err, key, 0))
}
