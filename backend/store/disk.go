package store

import (
	"context"
	"log/slog"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// Ping returns nil when the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.db.Ping(ctx) }

// A DiskState says how the disk takes writes.
type DiskState struct {
	// Full means that the last write was refused because the disk is full. The next write
	// that finds room ends it.
	Full bool
	// Failing means that the last write failed because the disk reported an error. It ends
	// soon after the disk takes writes again, even if nobody writes.
	Failing bool
	// Committing is how long the current transaction has taken so far, 0 without one.
	Committing time.Duration
}

// Disk returns the state of the disk. It waits for nothing.
func (s *Store) Disk() DiskState {
	d := DiskState{Full: s.full.Load(), Failing: s.db.Failing()}
	if began := s.writer.began.Load(); began != nil {
		d.Committing = time.Since(*began)
	}
	return d
}

// probeInterval is the time between two attempts to write to a disk that has failed.
const probeInterval = 500 * time.Millisecond

// diskProbe is the task that tries a failed disk until it takes a commit again. So the
// store recovers without a write, and the outcome of commits that failed is settled as soon
// as possible.
type diskProbe struct {
	*task
	db     *database.DB
	logger *slog.Logger
}

func startDiskProbe(db *database.DB, logger *slog.Logger) *diskProbe {
	p := &diskProbe{db: db, logger: logger}
	p.task = startTask(p.run)
	return p
}

func (p *diskProbe) run(ctx context.Context) {
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	for failing := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		was := failing
		failing = p.db.Failing()
		switch {
		case failing && !was:
			p.logger.Error("the disk reports errors: writes fail; it is tried until it works")
		case !failing && was:
			p.logger.Info("the disk takes writes again")
		}
		if failing {
			_ = p.db.Settle(ctx) // Failing has the result
		}
	}
}

// Backup makes a copy of the whole store, see database.Engine. It has every write that was
// answered before the call. Writes go on; each waits while at most a megabyte is copied. The
// caller must close the copy.
func (s *Store) Backup(ctx context.Context) (*database.Copy, error) {
	made, err := s.db.Copy(ctx)
	if err != nil {
		return nil, err
	}
	s.logger.InfoContext(ctx, "a backup was made", "revision", made.Revision, "bytes", made.Bytes)
	return made, nil
}

// Compact returns at most a megabyte of the free space of the database file to the disk, and
// reports how much it was and how much is left. No read sees a difference. Later writes
// use free space too, so this is for a store that has become smaller for good.
func (s *Store) Compact(ctx context.Context) (kv.Compaction, error) {
	return s.db.Compact(ctx)
}
