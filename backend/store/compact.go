package store

import (
	"context"

	"kvstore/backend/kv"
)

// compactPages bounds one step, and so how long writes wait for it.
const compactPages = 256

// Compact gives some of the free space of the database file back to the disk, at most
// a megabyte, and says how much it was and how much is left. It changes nothing that a
// read can see. Free space is used by later writes too, so this is for a store that
// has become smaller for good.
func (s *Store) Compact(ctx context.Context) (kv.Compaction, error) {
	return s.db.Compact(ctx, compactPages)
}
