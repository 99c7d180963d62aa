package database

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// A Head is what a writer must know of a key to append its next version.
type Head struct {
	// ID is the key's row; 0 for a key that is not stored yet, or was erased.
	ID int64
	// Version is the latest, or the last that an erased key had.
	Version int64
	// Revision and Time are those of the latest version.
	Revision int64
	Time     kv.Timestamp
	// TotalVersions counts the versions in the history that are not destroyed.
	TotalVersions int64
	// Deleted: the latest version is a tombstone.
	Deleted bool
	// Expires is that of the latest version; 0 is never.
	Expires kv.Timestamp
	// CompleteFrom: from this version on the history lacks none. Those before it may
	// have been removed, or never were there. 0 is as 1.
	CompleteFrom int64
	// Pruned is the highest revision that retention has removed from the history.
	Pruned int64
}

// Current returns the latest version of a key that exists at that time, else 0.
func (h Head) Current(now kv.Timestamp) int64 {
	if h.ID == 0 || h.Deleted || h.Expired(now) {
		return 0
	}
	return h.Version
}

// Expired reports whether the key has expired and its tombstone is still to be
// written.
func (h Head) Expired(now kv.Timestamp) bool {
	return h.ID != 0 && !h.Deleted && h.Expires != 0 && h.Expires <= now
}

// A Tx is a transaction of Update, which writes, or of View. It is valid inside the
// function that these call, and only there.
type Tx struct {
	tx       *gorm.DB
	memory   *memory // its lock is held; nil in a View
	identity identity
	count    func(*error)
	stored   map[int64]state // of the keys that Heads returned or Append saved, by id
	wrote    bool            // a row, so that there is something to commit
	// changed are the heads that were saved, and uncertain the keys whose heads
	// changed in another way.
	changed   map[string]Head
	uncertain []string
	// Totals are the store's counters, saved with the transaction. Number advances them;
	// who takes back what it made sets them back.
	Totals kv.Totals
	// Keep, when not 0, is how many of its newest versions a key has after Append. One that
	// had more before loses them over several. Trimmed is how many were removed so.
	Keep    int64
	Trimmed int
}

// state is what decides in which indexes a key stands.
type state struct {
	deleted bool
	expires kv.Timestamp
	pruned  int64
}

func (h Head) state() state { return state{h.Deleted, h.Expires, h.Pruned} }

// Update runs fn in one transaction and commits it: when it returns nil, all that
// fn did is on disk; when it returns an error, nothing of it is stored, with one
// exception: kv.ErrOutcomeUnknown says that the disk failed at the commit, so that no read
// sees what fn did, but the next process that opens the file may, unless there is another
// commit before. An error of fn comes back as it is.
//
// It fails with kv.ErrCorrupt when the counters are damaged.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	db.memory.mu.Lock()
	defer db.memory.mu.Unlock()
	ended := false
	defer func() {
		if !ended { // it panics, and how far it came is not known
			db.memory.forgetLocked()
		}
	}()
	committed, err := db.updateLocked(ctx, fn)
	ended = true
	db.noteLocked(err, committed)
	return err
}

func (db *DB) updateLocked(ctx context.Context, fn func(*Tx) error) (committed bool, err error) {
	if err := db.inPlace(); err != nil {
		return false, err
	}
	tx := db.writer.WithContext(ctx).Begin()
	if tx.Error != nil {
		return false, translate(ctx, "begin", tx.Error)
	}
	defer tx.Rollback() // after a commit it does nothing
	update := &Tx{
		tx: tx, memory: db.memory, identity: db.identity, count: db.count,
		stored: map[int64]state{}, changed: map[string]Head{},
	}
	if err := update.loadTotals(); err != nil {
		return false, translate(ctx, "read the counters", err)
	}
	before := update.Totals
	if err := fn(update); err != nil {
		return false, err
	}
	if !update.wrote && update.Totals == before {
		return false, nil
	}
	if err := update.saveTotals(); err != nil {
		return false, translate(ctx, "save the counters", err)
	}
	if err := db.commit(ctx, tx); err != nil {
		return false, db.commitFailedLocked(ctx, err)
	}
	db.memory.learnLocked(update)
	return true, nil
}

func (t *Tx) loadTotals() (err error) {
	defer t.count(&err)
	if t.memory.totals != nil {
		t.Totals = *t.memory.totals
		return nil
	}
	t.Totals, err = readTotals(t.tx)
	return err
}

func (t *Tx) saveTotals() error { return t.identity.save(t.tx, t.Totals) }

// padded repeats the last element until a statement of that length exists.
func padded[T any](keys []T) []T {
	length := len(keys)
	for _, n := range statementRows {
		if n >= len(keys) {
			length = n
		}
	}
	for len(keys) < length {
		keys = append(keys[:len(keys):len(keys)], keys[len(keys)-1])
	}
	return keys
}

// Append stores new versions, which Number has made, and the heads of their keys as they are
// afterwards. When Keep is set, it removes older
// versions and changes heads accordingly.
func (t *Tx) Append(heads map[string]Head, entries []kv.Entry) (err error) {
	t.wrote = true
	if t.Keep > 0 {
		if entries, err = t.trim(heads, entries); err != nil {
			return err
		}
	}
	if err := t.saveHeads(heads); err != nil {
		return err
	}
	versions := make([][]any, 0, len(entries))
	for i := range entries {
		e := &entries[i]
		versions = append(versions, versionOf(e, heads[e.Key].ID))
	}
	return t.insert(appendVersions, versions)
}

func (t *Tx) saveHeads(heads map[string]Head) error {
	var keys, moved, pruned [][]any
	for key, head := range heads {
		was, stored := t.stored[head.ID]
		now := head.state()
		row := []any{head.ID, key, head.Version, head.Revision, int64(head.Time), head.TotalVersions, head.CompleteFrom}
		switch sum := keyChecksum(key, head); {
		case stored && was == now:
			moved = append(moved, append(row, sum))
		case stored && was == state{now.deleted, now.expires, was.pruned}:
			pruned = append(pruned, append(row, head.Pruned, sum))
		default:
			keys = append(keys, rowOf(key, head))
		}
		t.stored[head.ID] = now
		t.changed[key] = head
	}
	return errors.Join(t.insert(upsertKeys, keys), t.insert(moveKeys, moved), t.insert(pruneKeys, pruned))
}

func (t *Tx) insert(i *insert, rows [][]any) error {
	return translate(t.tx.Statement.Context, "write "+i.table, i.exec(t.tx, rows))
}

// versionOf returns a row of appendVersions.
func versionOf(e *kv.Entry, keyID int64) []any {
	return []any{
		e.Revision, keyID, e.Version, int64(e.Time), string(e.Operation), e.ContentType, e.Author, int64(e.Expires), e.Destroyed,
		checksumsOf(e), bytesOf(e.Value),
	}
}

// bytesOf keeps an empty value from being stored as NULL.
func bytesOf(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}

// Number makes e the next version of the key with that head: it decides version, revision
// and time, and moves the totals on. It returns the head as it is then, to be given to Append
// with the entry. e.Time is now, or when an imported version was made; e.Version is 0, or the
// number of an imported version, and then the history lacks those that it passes over.
func (t *Tx) Number(head Head, e kv.Entry) (Head, kv.Written) {
	totals := &t.Totals
	previous, existed := head.Version, head.ID != 0 && !head.Deleted
	if !existed {
		previous = 0
	}
	totals.Revision++
	totals.Versions++
	next := head.Version + 1
	if e.Version == 0 {
		e.Version = next
	}
	if head.ID == 0 {
		head.ID = totals.Revision
	}
	if head.ID == totals.Revision || e.Version != next {
		head.CompleteFrom = e.Version
	}
	head.Version, head.Revision = e.Version, totals.Revision
	head.TotalVersions++
	head.Time = max(head.Time, e.Time) // the time of the last start may have been ahead
	head.Deleted, head.Expires = e.Operation.Tombstone(), e.Expires
	switch {
	case existed && head.Deleted:
		totals.Keys--
	case !existed && !head.Deleted:
		totals.Keys++
	}
	e.Revision, e.Time = head.Revision, head.Time
	return head, kv.Written{Entry: e, Previous: previous, TotalVersions: head.TotalVersions}
}
