package database

import (
	"context"
	"errors"
	"fmt"
	"math"

	"kvstore/backend/kv"
)

// A form is how a transaction of Update is made.
type form int

const (
	// direct runs each statement as it comes, with the lock. It is all that an engine with one
	// writer has.
	direct form = iota
	// locked takes the lock too, but writes all rows in one statement.
	locked
	// ahead stages the rows without a lock, and writes them in one statement that is the commit,
	// and that fails when another process was first.
	ahead
)

// staleness bounds by how much the time with which a commit was staged may be behind that at which
// it is made. It is far more than the time between two measurements.
const staleness = kv.Timestamp(1_000_000)

// updateAttempts bounds how often one call of Update runs a transaction.
const updateAttempts = 4

// Update runs fn in one transaction, saves what fn has appended, and commits. When it returns
// nil, all of it is on disk. When it returns an error, nothing is stored, except perhaps with
// kv.ErrOutcomeUnknown. With SQLite that says that the disk failed at the commit: no read sees what
// fn did, but the next process that opens the file may, unless another commit succeeds before.
// With an engine that is shared it may be there already. The error of fn is returned as it is. With
// damaged counters the error is kv.ErrCorrupt.
//
// With a shared engine fn may be called several times, each time with another Tx, and what counts is
// the last.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	db.memory.mu.Lock()
	defer db.memory.mu.Unlock()
	ended := false
	defer func() {
		if !ended { // a panic, and nobody knows whether it was committed
			db.memory.forgetLocked()
		}
	}()
	committed, err := db.updateLocked(ctx, fn)
	ended = true
	db.noteLocked(err, committed)
	return err
}

func (db *DB) updateLocked(ctx context.Context, fn func(*Tx) error) (committed bool, err error) {
	if err := db.Ready(); err != nil {
		return false, err
	}
	form := direct
	if _, shared := db.Shared(); shared {
		form = db.memory.formLocked()
	}
	for range updateAttempts {
		committed, err = db.tryLocked(ctx, form, fn)
		switch {
		case errors.Is(err, errDirect):
			form = direct
		case errors.Is(err, ErrBehind):
			db.chain.conflicts.Add(1)
			form = locked
		case errors.Is(err, ErrAgain):
			db.chain.retries.Add(1)
			form = direct
		default:
			return committed, err
		}
	}
	return false, err
}

func (db *DB) tryLocked(ctx context.Context, form form, fn func(*Tx) error) (committed bool, err error) {
	t := &Tx{
		tx: db.writer.WithContext(ctx), memory: db.memory, identity: db.identity, count: db.count,
		keys: map[string]*loadedKey{},
	}
	if form != direct {
		t.staged = &staged{until: math.MaxInt64}
	}
	if form == ahead {
		t.recall(db)
	} else {
		if t.tx = t.tx.Begin(); t.tx.Error != nil {
			return false, Translate(t.tx, "begin", t.tx.Error)
		}
		defer t.tx.Rollback() // after a commit it does nothing
		if err := t.lock(db, form == locked); err != nil {
			return false, err
		}
	}
	before := t.Totals
	if err = fn(t); err == nil {
		_, err = t.Save()
	}
	if t.staged != nil && t.staged.refused {
		return false, errDirect
	}
	if err != nil || !t.wrote && t.Totals == before {
		if form == ahead && (err == nil || kv.ClassOf(err) != kv.ClassUnavailable) { // else nothing is said of the store
			err = t.confirm(db, err)
		}
		return false, err
	}
	err = db.commitLocked(ctx, t, form, Commit{
		Before: before.Revision, Totals: t.Totals, Checksum: db.identity.Checksum(t.Totals),
		Clock: t.clock, Losses: t.losses(),
	})
	return err == nil, err
}

// commitLocked writes the last rows and commits.
func (db *DB) commitLocked(ctx context.Context, t *Tx, form form, c Commit) (err error) {
	if form == direct {
		t.Mark, err = db.Record(t.tx, t.Before, c)
	} else {
		shared, _ := db.Shared()
		var now kv.Timestamp
		t.Mark, now, err = shared.Append(t.tx, t.Before, t.staged.until, c, t.staged.Rows)
		db.chain.measured(now)
	}
	switch {
	case errors.Is(err, ErrBehind):
		return err
	case form == ahead: // that was the commit
	case err != nil:
		return Translate(t.tx, "save the commit", err)
	default:
		err = db.commit(ctx, t.tx)
	}
	if err != nil {
		return db.commitFailedLocked(ctx, err)
	}
	db.memory.learnLocked(t, c)
	return nil
}

// recall loads the counters from the memory.
func (t *Tx) recall(db *DB) {
	m := t.memory
	t.Totals, t.Before, t.clock = *m.totals, m.mark, m.clock
	db.chain.measured(t.clock)
	t.Now = db.chain.now()
	t.staged.until = t.Now + staleness
}

// confirm returns the error of a transaction that has nothing to commit, or ErrBehind if what it has
// relied on was not true any more at its end.
func (t *Tx) confirm(db *DB, cause error) error {
	shared, _ := db.Shared()
	mark, now, err := shared.Last(t.tx)
	if err != nil {
		return errors.Join(cause, Translate(t.tx, "read the last commit", err))
	}
	db.chain.measured(now)
	if mark != t.Before || now >= t.staged.until {
		return ErrBehind
	}
	return cause
}

// lock locks the database, forgets what other processes may have changed, and loads the counters.
func (t *Tx) lock(db *DB, brief bool) (err error) {
	defer t.count(&err)
	m := t.memory
	var last Committed
	if shared, ok := db.Shared(); ok {
		if last, t.Now, err = shared.Lock(t.tx, brief); err != nil {
			return Translate(t.tx, "lock the store", err)
		}
		db.chain.measured(t.Now)
	}
	t.Before, t.clock = last.Mark, last.Clock
	others := last.Mark != m.mark
	m.contended = others && m.totals != nil
	if others {
		m.forgetLocked()
		m.mark = last.Mark
	}
	switch {
	case m.totals != nil:
		t.Totals = *m.totals
		return nil
	case last.Mark != Mark{} && db.identity.Checksum(last.Totals) == last.Checksum:
		t.Totals = last.Totals
		m.totals, m.clock = &last.Totals, last.Clock
		return nil
	}
	identity, totals, _, err := readStore(t.tx, "0")
	if err == nil && identity != t.identity {
		err = fmt.Errorf("%w: the database now has the store %s in place of %s; start this program again",
			kv.ErrUnavailable, identity.StoreID, t.identity.StoreID)
	}
	t.Totals = totals
	return Translate(t.tx, "read the counters", err)
}
