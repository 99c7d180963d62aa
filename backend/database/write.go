package database

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// A Tx is a transaction of Update, which writes, or of View. It is valid only inside the
// function that they call.
//
// The Tx numbers versions. Load reads the heads of keys, Append makes versions from them in
// memory, and Save writes these with few statements.
type Tx struct {
	tx       *gorm.DB
	memory   *memory // its lock is held; nil in a View
	identity Identity
	count    func(*error)
	keys     map[string]*loadedKey
	latest   map[string]kv.Entry // see Latest
	wrote    bool                // there is something to commit
	clock    kv.Timestamp        // the latest time of what was appended
	appended []kv.Entry          // for Save to write
	replaced []Head              // the head of the key of each of them before it was appended
	// Totals are the counters of the store, which Append advances. They are saved with the
	// transaction.
	Totals kv.Totals
	// MaxVersions, when not 0, is how many versions a key has at most after Save. A key that
	// had more before loses them over several transactions. Trimmed counts the versions that
	// Save has removed.
	MaxVersions int64
	Trimmed     int
	// Now is the time of a shared engine, 0 with any other.
	Now kv.Timestamp
	// Before is the mark of the last commit before the transaction, and Mark that of its own, once
	// Update has returned nil.
	Before, Mark Mark
}

// Update runs fn in one transaction, saves what fn has appended, and commits. When it returns
// nil, all of it is on disk. When it returns an error, nothing is stored, except perhaps with
// kv.ErrOutcomeUnknown. With SQLite that says that the disk failed at the commit: no read sees what
// fn did, but the next process that opens the file may, unless another commit succeeds before.
// With an engine that is shared it may be there already. The error of fn is returned as it is. With damaged counters the error is kv.ErrCorrupt.
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
	tx := db.writer.WithContext(ctx).Begin()
	if tx.Error != nil {
		return false, Translate(tx, "begin", tx.Error)
	}
	defer tx.Rollback() // after a commit it does nothing
	update := &Tx{
		tx: tx, memory: db.memory, identity: db.identity, count: db.count, keys: map[string]*loadedKey{},
	}
	if err := update.lock(db); err != nil {
		return false, err
	}
	before := update.Totals
	if err := fn(update); err != nil {
		return false, err
	}
	if _, err := update.Save(); err != nil {
		return false, err
	}
	if !update.wrote && update.Totals == before {
		return false, nil
	}
	mark, err := db.Record(tx, Commit{
		Before: before.Revision, Totals: update.Totals, Checksum: db.identity.Checksum(update.Totals),
		Clock: update.clock, Losses: update.losses(),
	})
	if err != nil {
		return false, Translate(tx, "save the counters", err)
	}
	update.Mark = mark
	if err := db.commit(ctx, tx); err != nil {
		err = db.commitFailedLocked(ctx, err)
		return err == nil, err
	}
	db.memory.learnLocked(update, mark)
	return true, nil
}

// lock locks the database, forgets what other processes may have changed, and loads the counters.
func (t *Tx) lock(db *DB) (err error) {
	defer t.count(&err)
	mark, err := db.Lock(t.tx)
	if err != nil {
		return Translate(t.tx, "lock the store", err)
	}
	if shared, ok := db.Shared(); ok {
		if t.Now, err = shared.Now(t.tx); err != nil {
			return Translate(t.tx, "read the time", err)
		}
	}
	t.Before = mark
	if mark != t.memory.mark {
		t.memory.forgetLocked()
		t.memory.mark = mark
	}
	if t.memory.totals != nil {
		t.Totals = *t.memory.totals
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

// losses returns what was destroyed and erased.
func (t *Tx) losses() (all []Loss) {
	for _, k := range t.keys {
		if k.loss != nil {
			all = append(all, *k.loss)
		}
	}
	return all
}

// Append makes e the next version of its key, which must be loaded and not damaged. It sets
// version, revision and time, and advances the head and the totals. e.Time is now, or the time
// of an imported version. e.Version is 0, or the number of an imported version; the history
// then lacks the numbers in between. Save writes the row.
func (t *Tx) Append(e kv.Entry) kv.Written {
	k := t.keys[e.Key]
	t.replaced = append(t.replaced, k.head)
	totals, head := &t.Totals, &k.head
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
	head.Time = max(head.Time, e.Time) // the clock of an earlier process may have been ahead
	head.Deleted, head.Expires = e.Operation.Tombstone(), e.Expires
	switch {
	case existed && head.Deleted:
		totals.Keys--
	case !existed && !head.Deleted:
		totals.Keys++
	}
	e.Revision, e.Time = head.Revision, head.Time
	t.clock = max(t.clock, e.Time)
	t.appended = append(t.appended, e)
	return kv.Written{Entry: e, Previous: previous, TotalVersions: head.TotalVersions}
}

// Try calls fn, which must not Save. When fn returns an error, Try undoes its appends.
func (t *Tx) Try(fn func() error) error {
	totals, n := t.Totals, len(t.appended)
	err := fn()
	if err != nil {
		for i := len(t.appended) - 1; i >= n; i-- {
			t.keys[t.appended[i].Key].head = t.replaced[i]
		}
		t.Totals, t.appended, t.replaced = totals, t.appended[:n], t.replaced[:n]
	}
	return err
}

// Save writes the versions appended since the last Save and returns them in their order. With
// MaxVersions it also removes older versions, and does not store versions that would go at
// once.
func (t *Tx) Save() (appended []kv.Entry, err error) {
	appended, t.appended, t.replaced = t.appended, nil, nil
	if len(appended) == 0 {
		return nil, nil
	}
	t.wrote = true
	added := make(map[*loadedKey]int64, len(appended))
	changed := make([]*loadedKey, 0, len(appended))
	for i := range appended {
		e := &appended[i]
		k := t.keys[e.Key]
		if added[k]++; added[k] == 1 {
			changed = append(changed, k)
		}
		if e.Operation == kv.OpDestroy {
			k.end = &End{Version: e.Version, Revision: e.Revision, Time: int64(e.Time), Author: e.Author}
		}
	}
	stored := appended
	if t.MaxVersions > 0 {
		if stored, err = t.trim(changed, added, appended); err != nil {
			return nil, err
		}
	}
	if err := t.saveHeads(changed); err != nil {
		return nil, err
	}
	rows := make([][]any, 0, len(stored))
	for i := range stored {
		e := &stored[i]
		rows = append(rows, versionOf(e, t.keys[e.Key].head.ID))
	}
	return appended, appendVersions.exec(t.tx, rows)
}

// saveHeads writes the rows of keys.
func (t *Tx) saveHeads(changed []*loadedKey) error {
	var keys, moved, pruned [][]any
	for _, k := range changed {
		head := k.head
		row := []any{head.ID, k.name, head.Version, head.Revision, int64(head.Time), head.TotalVersions, head.CompleteFrom}
		switch now, sum := head.state(), keyChecksum(k.name, head); {
		case k.stored && k.saved == now:
			moved = append(moved, append(row, sum))
		case k.stored && k.saved == state{now.deleted, now.expires, k.saved.pruned}:
			pruned = append(pruned, append(row, head.Pruned, sum))
		default:
			keys = append(keys, []any{
				head.ID, k.name, head.Version, head.Revision, int64(head.Time), head.TotalVersions,
				head.Deleted, int64(head.Expires), head.CompleteFrom, head.Pruned, sum,
			})
		}
		k.found(head)
		k.changed = true
	}
	return errors.Join(upsertKeys.exec(t.tx, keys), moveKeys.exec(t.tx, moved), pruneKeys.exec(t.tx, pruned))
}

// versionOf returns a row for appendVersions.
func versionOf(e *kv.Entry, keyID int64) []any {
	return []any{
		e.Revision, keyID, e.Version, int64(e.Time), string(e.Operation), e.ContentType, e.Author,
		int64(e.Expires), e.Destroyed, checksumsOf(e), bytesOf(e.Value),
	}
}

// bytesOf prevents that an empty value is stored as NULL.
func bytesOf(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}

// statementRows are the numbers of rows of one statement. They are few, so that the
// driver has each statement prepared, whatever the size of a batch.
var statementRows = [...]int{64, 16, 4, 1}

// An insert puts many rows into a table with few statements. GORM's Create does the same by
// reflection, and takes three times as long to build a statement whose text never changes.
type insert struct {
	table      string
	columns    int
	statements map[int]string // by their number of rows
}

func newInsert(table, columns, conflict string) *insert {
	i := &insert{table: table, columns: strings.Count(columns, ",") + 1, statements: map[int]string{}}
	row := "(" + strings.Repeat("?, ", i.columns-1) + "?)"
	for _, n := range statementRows {
		values := strings.Repeat(row+", ", n-1) + row
		i.statements[n] = fmt.Sprintf("INSERT INTO %s (%s) VALUES %s %s", table, columns, values, conflict)
	}
	return i
}

var (
	upsertKeys = newInsert("keys", keyColumns, moveHead+`, deleted = excluded.deleted,
		expires_at = excluded.expires_at, pruned = excluded.pruned`)
	// moveKeys is for stored keys of which no indexed column changes. SQLite updates an index
	// whenever a statement sets one of its columns, even to the same value.
	moveKeys = newInsert("keys",
		"id, key, version, revision, timestamp, total_versions, complete_from, checksum", moveHead)
	// pruneKeys is moveKeys for keys that have lost versions too.
	pruneKeys = newInsert("keys",
		"id, key, version, revision, timestamp, total_versions, complete_from, pruned, checksum",
		moveHead+", pruned = excluded.pruned")
	appendVersions = newInsert("versions", versionRowColumns, "")
)

const (
	keyColumns = `id, key, version, revision, timestamp, total_versions, deleted, expires_at, complete_from,
		pruned, checksum`
	versionRowColumns = `revision, key_id, version, timestamp, operation, content_type, author, expires_at,
		destroyed, checksums, value`
	moveHead = `ON CONFLICT (id) DO UPDATE SET version = excluded.version, revision = excluded.revision,
		timestamp = excluded.timestamp, total_versions = excluded.total_versions,
		complete_from = excluded.complete_from, checksum = excluded.checksum`
)

// exec inserts the rows in their order.
func (i *insert) exec(tx *gorm.DB, rows [][]any) error {
	for _, n := range statementRows {
		for ; len(rows) >= n; rows = rows[n:] {
			args := make([]any, 0, n*i.columns)
			for _, row := range rows[:n] {
				args = append(args, row...)
			}
			if err := tx.Exec(i.statements[n], args...).Error; err != nil {
				return Translate(tx, "write "+i.table, err)
			}
		}
	}
	return nil
}
