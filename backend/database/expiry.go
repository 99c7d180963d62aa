package database

import (
	"context"

	"kvstore/backend/kv"
)

// An Expired is a key that has expired.
type Expired struct {
	Key string
	// ID is that of its row, and At when it expired: the place of the key among others.
	ID int64
	At kv.Timestamp
}

// Expired returns keys that have expired at that time and have no tombstone yet,
// those that expired first, from the one behind after on, and at most limit.
func (db *DB) Expired(ctx context.Context, now kv.Timestamp, after Expired, limit int) ([]Expired, error) {
	var found []Expired
	err := db.readers.WithContext(ctx).Raw(`SELECT id, key, expires_at AS at FROM keys
		WHERE expires_at > 0 AND expires_at <= ? AND expires_at >= ? AND (expires_at > ? OR id > ?)
		ORDER BY expires_at, id LIMIT ?`, int64(now), int64(after.At), int64(after.At), after.ID, limit).Scan(&found).Error
	return found, translate(ctx, "find expired keys", err)
}
