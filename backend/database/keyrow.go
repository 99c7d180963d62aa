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

// findKey returns the head of a key and whether there is that key. That there is none
// is believed when no index has it.
func findKey(tx *gorm.DB, key string) (Head, bool, error) {
	ctx := tx.Statement.Context
	var k storedKey
	err := tx.Raw("SELECT "+keyRowColumns+" FROM keys WHERE unlikely(key = ?)", key).Row().Scan(k.fields()...)
	if errors.Is(err, sql.ErrNoRows) {
		return Head{}, false, absent(tx, key)
	}
	if err == nil && k.key != key {
		err = damaged(key, 0, "the index leads to the key '"+k.key+"'")
	}
	if err == nil {
		err = k.check()
	}
	return k.head, err == nil, translate(ctx, "read a key", scanned(err, key, 0))
}

// absentSQL looks for a key in each index that has it.
const absentSQL = `SELECT EXISTS (SELECT 1 FROM keys INDEXED BY keys_key WHERE unlikely(key = ?)),
	EXISTS (SELECT 1 FROM keys INDEXED BY keys_live WHERE unlikely(key = ?) AND NOT deleted)
	OR EXISTS (SELECT 1 FROM keys INDEXED BY keys_deleted WHERE unlikely(key = ?) AND deleted)`

// errAppeared says that a key was not there and is there now.
var errAppeared = errors.New("the key was written just now")

// absent returns nil when no index has the key, and kv.ErrCorrupt when one of them has:
// a bit that flipped in one hides the key there alone.
func absent(tx *gorm.DB, key string) error {
	err := look(tx, key)
	if errors.Is(err, errAppeared) { // but tx sees what it saw before
		return damaged(key, 0, "it is in its indexes and not found")
	}
	return err
}

// look is absent outside of a transaction: errAppeared says that all have the key.
func look(tx *gorm.DB, key string) error {
	var first, second bool
	err := tx.Raw(absentSQL, key, key, key).Row().Scan(&first, &second)
	switch {
	case err != nil:
		return translate(tx.Statement.Context, "look for a key", scanned(err, key, 0))
	case first && second:
		return errAppeared
	case first != second:
		return translate(tx.Statement.Context, "look for a key", damaged(key, 0, "its indexes differ"))
	default:
		return nil
	}
}
