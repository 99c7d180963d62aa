package database

import (
	"context"

	"kvstore/backend/kv"
)

// Expired returns keys that have expired at that time and have no tombstone yet,
// those that expired first, at most limit.
func (db *DB) Expired(ctx context.Context, now kv.Timestamp, limit int) ([]string, error) {
	var keys []string
	err := db.readers.WithContext(ctx).Raw(`SELECT key FROM keys
		WHERE expires_at > 0 AND expires_at <= ? ORDER BY expires_at LIMIT ?`, int64(now), limit).Scan(&keys).Error
	return keys, translate(ctx, "find expired keys", err)
}
