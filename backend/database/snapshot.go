package database

import (
	"context"

	"gorm.io/gorm"
)

// snapshot calls fn in a transaction that reads: all that it reads is of one moment.
// An error of fn comes back as it is.
func (db *DB) snapshot(ctx context.Context, fn func(*gorm.DB) error) error {
	tx := db.readers.WithContext(ctx).Begin()
	if tx.Error != nil {
		return translate(ctx, "begin", tx.Error)
	}
	defer tx.Rollback() // there is nothing to commit
	return fn(tx)
}

// View runs fn in a transaction that reads: what fn reads is of one moment, all that was
// committed before View was called, and no write waits for it. fn may use what reads of a
// Tx. An error of fn comes back as it is.
func (db *DB) View(ctx context.Context, fn func(*Tx) error) error {
	return db.snapshot(ctx, func(tx *gorm.DB) error {
		view := &Tx{tx: tx, count: db.count, stored: map[int64]state{}}
		totals, err := readTotals(tx)
		if err != nil {
			return translate(ctx, "read the counters", err)
		}
		view.Totals = totals
		return fn(view)
	})
}
