package database

import (
	"context"
	"database/sql"
	"fmt"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// followedCommits bounds the commits that one call of Follow reads.
const followedCommits = 64

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
	err = readTable(tx, "follow commits", followedSQL, first, func(rows *sql.Rows) (any, error) {
		var v storedVersion
		if err := rows.Scan(v.entryFields()...); err != nil {
			return nil, Translate(tx, "follow commits", err)
		}
		for v.Revision > next.Totals.Revision {
			apply(next)
			commits = commits[1:]
			next = Followed{Committed: commits[0]}
		}
		if err := v.checkAll(); err != nil {
			db.count(&err)
			next.Damaged = true
		} else {
			next.Entries = append(next.Entries, v.Entry)
		}
		return v.Revision, nil
	}, last)
	if err != nil {
		return err
	}
	apply(next)
	for _, c := range commits[1:] {
		apply(Followed{Committed: c})
	}
	return nil
}

var followedSQL = fmt.Sprintf("SELECT %s FROM versions JOIN keys ON keys.id = versions.key_id "+
	"WHERE versions.revision > ? AND versions.revision <= ? ORDER BY versions.revision LIMIT %d", entryColumns, tableRows)

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
		var now kv.Timestamp
		if mark, now, err = shared.Last(tx); err == nil {
			db.chain.measured(now)
			totals, err = readTotals(tx)
		}
		return err
	})
	return totals, mark, Translate(tx, "read the last commit", err)
}

// Last returns the mark of the last commit of an engine that is shared, and measures its time for Now.
func (db *DB) Last(ctx context.Context) (Mark, error) {
	tx := db.index.WithContext(ctx)
	mark, now, err := db.Engine.(Shared).Last(tx)
	db.chain.measured(now)
	return mark, Translate(tx, "ask for the last commit", err)
}
