package database

import (
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
	staged   *staged             // what is to be written at the commit; nil when that is done at once
	latest   map[string]kv.Entry // see Latest
	wrote    bool                // there is something to commit
	clock    kv.Timestamp        // the latest time of a version of the store
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
	// Now is DB.Now when the transaction began, 0 unless the engine is shared.
	Now kv.Timestamp
	// Before is the mark of the last commit before the transaction, and Mark that of its own, once
	// Update has returned nil.
	Before, Mark Mark
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
	if len(t.appended) == 0 {
		return nil, nil
	}
	if t.staged != nil && len(t.staged.Keys) > 0 {
		return nil, t.direct()
	}
	appended, t.appended, t.replaced = t.appended, nil, nil
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
	if t.staged != nil {
		t.staged.append(t, stored)
		return appended, nil
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
	if t.staged != nil {
		t.staged.saveHeads(changed)
		return nil
	}
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
