package database

import (
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// Translate returns an error of package kv for one of a statement of tx, and keeps the cause for the
// log. It leaves errors of the context and of package kv as they are.
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

// kindOf returns the sentinel of package kv for an error of a statement of tx.
func kindOf(tx *gorm.DB, err error) error {
	if errors.Is(err, kv.ErrCorrupt) || isScan(err) {
		return kv.ErrCorrupt
	}
	return tx.Dialector.(gorm.ErrorTranslator).Translate(err)
}

// translateRow is Translate for a row of a key. The error names the key if the row is damaged.
func translateRow(tx *gorm.DB, doing string, err error, key string, version int64) error {
	var known *kv.Error
	if err != nil && !errors.As(err, &known) && errors.Is(kindOf(tx, err), kv.ErrCorrupt) {
		err = damaged(key, version, err.Error())
	}
	return Translate(tx, doing, err)
}

// damaged is kv.Damaged with a cause for the log.
func damaged(key string, version int64, cause string) error {
	return fmt.Errorf("%w (%s)", kv.Damaged(key, version), cause)
}

// missingVersion is the cause for a version that must exist.
const missingVersion = "it is not found, and nothing removed it"

// isScan reports whether err is that of converting a column, which database/sql tells by the text
// alone. It means a damaged row, since all columns have the types of their targets.
func isScan(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "sql: Scan error on column")
}

// Damage is the number of times that something damaged was found since the database was opened.
func (db *DB) Damage() uint64 { return db.damage.Load() }

// NoteDamage counts damage that was found in other ways.
func (db *DB) NoteDamage(n uint64) { db.damage.Add(n) }

// count counts a kv.ErrCorrupt.
func (db *DB) count(err *error) {
	if errors.Is(*err, kv.ErrCorrupt) {
		db.damage.Add(1)
	}
}
