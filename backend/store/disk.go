package store

import "time"

// DiskFull reports whether the last write was refused since the disk is full. It is false
// again after the next write that finds room.
func (s *Store) DiskFull() bool { return s.full.Load() }

// DiskFailing reports whether the last write failed since the disk reports errors. It is
// false again soon after the disk takes writes, though nobody writes.
func (s *Store) DiskFailing() bool { return s.db.Failing() }

// Committing is how long the transaction that is under way has taken, 0 when none is.
func (s *Store) Committing() time.Duration {
	if began := s.writer.began.Load(); began != nil {
		return time.Since(*began)
	}
	return 0
}
