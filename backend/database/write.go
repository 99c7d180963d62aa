package database

import (
	"context"
	"fmt"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

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

// A Tx is a transaction that writes. It is valid inside the function that Update
// calls, and only there.
type Tx struct {
	tx     *gorm.DB
	erased bool            // some key was erased
	stored map[int64]state // of the keys that Heads returned or Append saved, by id
	wrote  bool            // a row, so that there is something to commit
	// Totals are the store's counters. The caller advances them; they are saved
	// with the transaction.
	Totals kv.Totals
}

// state is what decides in which indexes a key stands.
type state struct {
	deleted bool
	expires kv.Timestamp
}

// Update runs fn in one transaction and commits it: when it returns nil, all that
// fn did is on disk; when it returns an error, nothing of it is stored. An error
// of fn comes back as it is.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	tx := db.writer.WithContext(ctx).Begin()
	if tx.Error != nil {
		return translate(ctx, "begin", tx.Error)
	}
	defer tx.Rollback() // after a commit it does nothing
	update := &Tx{tx: tx, erased: db.erased.Load(), stored: map[int64]state{}}
	if err := tx.Raw("SELECT " + totalsColumns + " FROM store").Scan(&update.Totals).Error; err != nil {
		return translate(ctx, "read the counters", err)
	}
	before := update.Totals
	if err := fn(update); err != nil {
		return err
	}
	if !update.wrote && update.Totals == before {
		return nil
	}
	if err := update.saveTotals(); err != nil {
		return translate(ctx, "save the counters", err)
	}
	if err := tx.Commit().Error; err != nil {
		return translate(ctx, "commit", err)
	}
	if update.erased {
		db.erased.Store(true)
	}
	return nil
}

func (t *Tx) saveTotals() error {
	return t.tx.Exec("UPDATE store SET revision = ?, total_keys = ?, total_versions = ?, compacted = ?",
		t.Totals.Revision, t.Totals.Keys, t.Totals.Versions, t.Totals.Compacted).Error
}

// statementRows are the numbers of rows that one statement takes. They are few, so
// that the driver finds each statement prepared, whatever the size of a batch.
var statementRows = [...]int{64, 16, 4, 1}

// Heads returns the heads of those of keys that are stored or were erased.
func (t *Tx) Heads(keys []string) (map[string]Head, error) {
	heads := make(map[string]Head, len(keys))
	for rest := keys; len(rest) > 0; {
		n := min(len(rest), statementRows[0])
		var rows []keyRow
		if err := t.tx.Raw("SELECT * FROM keys WHERE key IN ?", padded(rest[:n])).Scan(&rows).Error; err != nil {
			return nil, translate(t.tx.Statement.Context, "read heads", err)
		}
		for _, row := range rows {
			heads[row.Key] = Head{
				ID: row.ID, Version: row.Version, Revision: row.Revision,
				Time: kv.Timestamp(row.Timestamp), TotalVersions: row.TotalVersions,
				Deleted: row.Deleted, Expires: kv.Timestamp(row.ExpiresAt),
			}
			t.stored[row.ID] = state{row.Deleted, kv.Timestamp(row.ExpiresAt)}
		}
		rest = rest[n:]
	}
	return heads, t.addErased(heads, keys)
}

// padded repeats the last key until a statement of that length exists.
func padded(keys []string) []string {
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

// Append stores new versions, and the heads of their keys as they are afterwards.
// Each entry's key must be in heads, with an ID.
func (t *Tx) Append(heads map[string]Head, entries []kv.Entry) error {
	keys, moved := make([]keyRow, 0, len(heads)), make([]keyRow, 0, len(heads))
	for key, head := range heads {
		row := keyRow{
			ID: head.ID, Key: key, Version: head.Version, Revision: head.Revision,
			Timestamp: int64(head.Time), TotalVersions: head.TotalVersions,
			Deleted: head.Deleted, ExpiresAt: int64(head.Expires),
		}
		now := state{head.Deleted, head.Expires}
		if was, stored := t.stored[head.ID]; stored && was == now {
			moved = append(moved, row)
		} else {
			keys = append(keys, row)
		}
		t.stored[head.ID] = now
	}
	t.wrote = true
	versions := make([]versionRow, 0, len(entries))
	for _, e := range entries {
		versions = append(versions, versionRow{
			Revision: e.Revision, KeyID: heads[e.Key].ID, Version: e.Version,
			Timestamp: int64(e.Time), Operation: string(e.Operation), ContentType: e.ContentType,
			Author: e.Author, ExpiresAt: int64(e.Expires), Destroyed: e.Destroyed, Value: bytesOf(e.Value),
		})
	}
	if err := inStatements(keys, t.upsertKeys); err != nil {
		return translate(t.tx.Statement.Context, "save keys", err)
	}
	if err := inStatements(moved, t.moveKeys); err != nil {
		return translate(t.tx.Statement.Context, "save keys", err)
	}
	if err := inStatements(versions, t.insertVersions); err != nil {
		return translate(t.tx.Statement.Context, "append versions", err)
	}
	return nil
}

func (t *Tx) upsertKeys(rows []keyRow) error { return t.saveKeys(rows, movedColumns, stateColumns) }

// moveKeys saves keys that exist as they did. SQLite writes an index anew when a
// statement sets one of its columns, to the same value or not: this one sets none.
func (t *Tx) moveKeys(rows []keyRow) error { return t.saveKeys(rows, movedColumns) }

var (
	movedColumns = []string{"version", "revision", "timestamp", "total_versions"}
	stateColumns = []string{"deleted", "expires_at"}
)

func (t *Tx) saveKeys(rows []keyRow, columns ...[]string) error {
	return t.tx.Clauses(clause.OnConflict{
		Columns:   []clause.Column{{Name: "id"}},
		DoUpdates: clause.AssignmentColumns(slices.Concat(columns...)),
	}).Create(&rows).Error
}

// bytesOf keeps an empty value from being stored as NULL.
func bytesOf(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}

func (t *Tx) insertVersions(rows []versionRow) error {
	return t.tx.Omit(clause.Associations).Create(&rows).Error
}

// inStatements calls save with pieces of rows that have the lengths of
// statementRows.
func inStatements[T any](rows []T, save func([]T) error) error {
	for _, n := range statementRows {
		for len(rows) >= n {
			if err := save(rows[:n]); err != nil {
				return fmt.Errorf("%d rows: %w", n, err)
			}
			rows = rows[n:]
		}
	}
	return nil
}
