package database

import (
	"context"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

const (
	// followedCommits bounds the commits that one call of Follow reads.
	followedCommits = 64
	// followedRows bounds the versions that one query reads.
	followedRows = 1024
)

// Shared returns the engine when other processes may write too.
func (db *DB) Shared() (Shared, bool) {
	shared, ok := db.Engine.(Shared)
	return shared, ok
}

// A Followed is a commit with the versions that it appended and that are still there.
type Followed struct {
	Committed
	Entries []kv.Entry
	// Damaged means that some of them cannot be read, perhaps not even which keys they are of.
	Damaged bool
}

// Follow calls apply with the next commits after that one, whole and in their order. There may be more
// when it returns. The error may be one of Shared.Commits.
func (db *DB) Follow(ctx context.Context, after Mark, apply func(Followed)) (err error) {
	tx := db.index.WithContext(ctx)
	commits, err := db.Engine.(Shared).Commits(tx, after, followedCommits)
	err = Translate(tx, "follow commits", err)
	if err != nil || len(commits) == 0 {
		return err
	}
	first, last := commits[0].Before, commits[len(commits)-1].Totals.Revision
	next := Followed{Committed: commits[0]}
	err = db.followRows(ctx, first, last, func(e kv.Entry, damage error) {
		db.count(&damage)
		for e.Revision > next.Totals.Revision {
			apply(next)
			commits = commits[1:]
			next = Followed{Committed: commits[0]}
		}
		if damage != nil {
			next.Damaged = true
			return
		}
		next.Entries = append(next.Entries, e)
	})
	if err != nil {
		return err
	}
	apply(next)
	for _, c := range commits[1:] {
		apply(Followed{Committed: c})
	}
	return nil
}

// The limit is in the text, so that the plan is the same whatever the range.
const followedSQL = "SELECT " + entryColumns + ` FROM versions JOIN keys ON keys.id = versions.key_id
	WHERE versions.revision > ? AND versions.revision <= ? ORDER BY versions.revision LIMIT 1024`

// followRows calls each with the versions after a revision, up to last, in their order.
func (db *DB) followRows(ctx context.Context, after, last int64, each func(kv.Entry, error)) error {
	for {
		n, through, err := db.followPiece(ctx, after, last, each)
		if err != nil || n < followedRows {
			return err
		}
		after = through
	}
}

func (db *DB) followPiece(ctx context.Context, after, last int64, each func(kv.Entry, error)) (n int, through int64, err error) {
	tx := db.index.WithContext(ctx)
	rows, err := tx.Raw(followedSQL, after, last).Rows()
	if err != nil {
		return 0, after, Translate(tx, "follow commits", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for ; rows.Next(); n++ {
		var v storedVersion
		if err := rows.Scan(v.entryFields()...); err != nil {
			return n, after, Translate(tx, "follow commits", err)
		}
		after = v.Revision
		each(v.Entry, v.checkAll())
	}
	return n, after, Translate(tx, "follow commits", rows.Err())
}

// Rejoin is for a backend that has seen a revision of a history which the engine has lost. It makes
// the history one of its own, as a restore does (see Advance): the revision goes beyond all that were
// given out, so that nobody takes one write for another. It does nothing if another backend has done it.
func (db *DB) Rejoin(ctx context.Context, seen int64) error {
	return db.Update(ctx, func(tx *Tx) error {
		if t := &tx.Totals; t.Restored <= seen {
			t.Revision = unusedRevision(max(t.Revision, seen), 0)
			t.Compacted, t.Restored = t.Revision, t.Revision
		}
		return nil
	})
}

// Begin returns the counters and the mark of the last commit.
func (db *DB) Begin(ctx context.Context) (totals kv.Totals, mark Mark, err error) {
	shared, ok := db.Shared()
	if !ok {
		stats, err := db.Stats(ctx)
		return stats.Totals, Mark{}, err
	}
	tx := db.index.WithContext(ctx)
	err = tx.Transaction(func(tx *gorm.DB) (err error) {
		if mark, _, err = shared.Last(tx); err == nil {
			totals, err = readTotals(tx)
		}
		return err
	})
	return totals, mark, Translate(tx, "read the last commit", err)
}

// Last returns the mark of the last commit, and the time of the engine, which is shared.
func (db *DB) Last(ctx context.Context) (Mark, kv.Timestamp, error) {
	tx := db.index.WithContext(ctx)
	mark, now, err := db.Engine.(Shared).Last(tx)
	db.chain.measured(now)
	return mark, now, Translate(tx, "ask for the last commit", err)
}
