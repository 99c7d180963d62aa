package store

import (
	"context"
	"log/slog"
	"time"

	"kvstore/backend/database"
)

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

// probeInterval is the time between two attempts to write to a disk that has failed.
const probeInterval = 500 * time.Millisecond

// diskProbe is the task that tries a disk which has failed until it takes a commit
// again. So the store is well again by itself, though nobody writes, and what became of
// commits that failed is settled as soon as can be.
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
		switch was := failing; {
		case !p.db.Failing():
			if failing = false; was {
				p.logger.Info("the disk takes writes again")
			}
		default:
			if failing = true; !was {
				p.logger.Error("the disk reports errors: writes fail; it is tried until it works")
			}
			_ = p.db.Settle(ctx) // Failing tells
		}
	}
}
