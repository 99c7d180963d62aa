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

// mendInterval is the time between two attempts to write to a disk that has failed.
const mendInterval = 500 * time.Millisecond

// mender is the goroutine that tries a disk which has failed until it takes a commit
// again. So the store is well again by itself, though nobody writes, and what became of
// commits that failed is settled as soon as can be.
type mender struct {
	db     *database.DB
	logger *slog.Logger
	cancel context.CancelFunc
	ended  chan struct{}
}

func startMender(db *database.DB, logger *slog.Logger) *mender {
	ctx, cancel := context.WithCancel(context.Background())
	m := &mender{db: db, logger: logger, cancel: cancel, ended: make(chan struct{})}
	go m.run(ctx)
	return m
}

func (m *mender) close() {
	m.cancel()
	<-m.ended
}

func (m *mender) run(ctx context.Context) {
	defer close(m.ended)
	ticker := time.NewTicker(mendInterval)
	defer ticker.Stop()
	for failing := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch was := failing; {
		case !m.db.Failing():
			if failing = false; was {
				m.logger.Info("the disk takes writes again")
			}
		default:
			if failing = true; !was {
				m.logger.Error("the disk reports errors: writes fail; it is tried until it works")
			}
			_ = m.db.Settle(ctx) // Failing tells
		}
	}
}
