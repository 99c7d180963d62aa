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
