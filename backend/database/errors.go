package database

import (
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// Translate turns an error that came of tx into one of package kv and keeps the cause for
// the log. An error of the context stays what it is.
func Translate(tx *gorm.DB, doing string, err error) error {
	if err == nil {
		return nil
	}
	if cause := tx.Statement.Context.Err(); cause != nil {
		return fmt.Errorf("%s: %w", doing, cause)
	}
	var known *kv.Error
	if errors.As(err, &known) { // ours already
		return err
	}
	return fmt.Errorf("%s: %w: %w", doing, kindOf(tx, err), err)
}

// kindOf returns the sentinel of package kv that an error which came of tx is.
func kindOf(tx *gorm.DB, err error) error {
	if errors.Is(err, kv.ErrCorrupt) || isScan(err) {
		return kv.ErrCorrupt
	}
	return tx.Dialector.(gorm.ErrorTranslator).Translate(err)
}

// translateRow is Translate for the error of reading a row of a key, which it names when the row
// is damaged.
func translateRow(tx *gorm.DB, doing string, err error, key string, version int64) error {
	var known *kv.Error
	if err != nil && !errors.As(err, &known) && errors.Is(kindOf(tx, err), kv.ErrCorrupt) {
		err = damaged(key, version, err.Error())
	}
	return Translate(tx, doing, err)
}

// damaged is kv.Damaged with what the log should know of it.
func damaged(key string, version int64, cause string) error {
	return fmt.Errorf("%w (%s)", kv.Damaged(key, version), cause)
}

// missingVersion is the cause of a version that must be there.
const missingVersion = "it is not found, and nothing removed it"

// isScan tells an error of converting a column from others, which database/sql does by
// its words alone. All our columns have the types that they are scanned into, so the row is
// damaged.
func isScan(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "sql: Scan error on column")
}

// Damage is how many times, since the database was opened, a read or a write has found
// something damaged.
func (db *DB) Damage() uint64 { return db.damage.Load() }

// NoteDamage counts what was found in another way.
func (db *DB) NoteDamage(n uint64) { db.damage.Add(n) }

// count counts an error that is kv.ErrCorrupt.
func (db *DB) count(err *error) {
	if errors.Is(*err, kv.ErrCorrupt) {
		db.damage.Add(1)
	}
}
