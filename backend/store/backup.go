package store

import (
	"context"

	"kvstore/backend/database"
)

// Backup makes a copy of the whole store, see database.DB.Copy. Every write that was answered before
// Backup was called is in it. Writes go on; each waits for the copying of at most a
// megabyte. The copy must be closed.
func (s *Store) Backup(ctx context.Context) (*database.Copy, error) {
	made, err := s.db.Copy(ctx)
	if err != nil {
		return nil, err
	}
	s.logger.InfoContext(ctx, "a backup was made", "revision", made.Revision, "bytes", made.Bytes)
	return made, nil
}
