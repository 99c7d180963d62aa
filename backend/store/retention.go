package store

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

const (
	// defaultSweepInterval is the time between two searches of the whole store. A
	// search takes a multiple of itself as a rest, so that it never keeps a
	// processor busy.
	defaultSweepInterval = time.Minute
	sweepRest            = 20
	// pruneLimit bounds one transaction, so that writers do not wait for it long.
	pruneLimit = 256
	// sweepPage is how many keys one query of a search finds.
	sweepPage = 256
	// overfullLength is how many keys may wait to be pruned; the next search finds
	// those that find no place.
	overfullLength = 1024
)

// retention is the goroutine that deletes the versions which need not be kept. It
// prunes a key soon after a write that made it overfull, and searches the whole
// store from time to time, for versions that grew old and after a restart with
// other settings.
type retention struct {
	db          *database.DB
	logger      *slog.Logger
	now         func() time.Time
	maxVersions int64
	maxAge      time.Duration
	interval    time.Duration
	pruned      *atomic.Uint64 // counts the versions that were deleted

	overfull chan string
	cancel   context.CancelFunc
	ended    chan struct{}
}

// startRetention returns nil when everything is kept.
func startRetention(cfg Config, pruned *atomic.Uint64) *retention {
	if cfg.MaxVersions == 0 && cfg.MaxVersionAge == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &retention{
		db: cfg.Database, logger: cfg.Logger, now: cfg.Now,
		maxVersions: int64(cfg.MaxVersions), maxAge: cfg.MaxVersionAge, interval: cfg.SweepInterval, pruned: pruned,
		overfull: make(chan string, overfullLength), cancel: cancel, ended: make(chan struct{}),
	}
	if r.interval == 0 {
		r.interval = defaultSweepInterval
	}
	go r.run(ctx)
	return r
}

func (r *retention) close() {
	if r == nil {
		return
	}
	r.cancel()
	<-r.ended
}

// written is told of each write that is published. It never blocks the writer.
func (r *retention) written(w kv.Written) {
	if r == nil || r.maxVersions == 0 || w.TotalVersions <= r.maxVersions {
		return
	}
	select {
	case r.overfull <- w.Entry.Key:
	default:
	}
}

func (r *retention) run(ctx context.Context) {
	defer close(r.ended)
	timer := time.NewTimer(0) // the first search comes at once
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case key := <-r.overfull:
			r.report(ctx, r.prune(ctx, key))
		case <-timer.C:
			start := time.Now()
			r.report(ctx, r.sweep(ctx))
			timer.Reset(max(r.interval, sweepRest*time.Since(start)))
		}
	}
}

// report logs a failure. The versions stay until the next search.
func (r *retention) report(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		r.logger.Error("retention failed", "error", err)
	}
}

func (r *retention) rule() database.Retention {
	rule := database.Retention{MaxVersions: r.maxVersions}
	if r.maxAge > 0 {
		rule.Before = kv.NewTimestamp(r.now().Add(-r.maxAge))
	}
	return rule
}

func (r *retention) prune(ctx context.Context, key string) error {
	for {
		pruned, err := r.db.Prune(ctx, key, r.rule(), pruneLimit)
		if err == nil {
			r.pruned.Add(uint64(pruned))
		}
		if err != nil || pruned < pruneLimit {
			return err
		}
	}
}

// sweep prunes every key that has versions which may go.
func (r *retention) sweep(ctx context.Context) error {
	for after := int64(0); ; {
		found, err := r.db.Prunables(ctx, r.rule(), after, sweepPage)
		if err != nil || len(found) == 0 {
			return err
		}
		for _, key := range found {
			err := r.prune(ctx, key.Key)
			if isDamage(err) { // the other keys need not stay as they are for this one
				r.report(ctx, err)
				continue
			}
			if err != nil {
				return err
			}
		}
		after = found[len(found)-1].ID
	}
}
