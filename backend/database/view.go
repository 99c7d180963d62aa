package database

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// snapshot calls fn in a transaction that reads: all that it reads is of one moment.
// An error of fn comes back as it is.
func (db *DB) snapshot(ctx context.Context, fn func(*gorm.DB) error) error {
	tx := db.readers.WithContext(ctx).Begin()
	if tx.Error != nil {
		return translate(ctx, "begin", tx.Error)
	}
	defer tx.Rollback() // there is nothing to commit
	return fn(tx)
}

// View runs fn in a transaction that reads: what fn reads is of one moment, all that was
// committed before View was called, and no write waits for it. fn may use what reads of a
// Tx. An error of fn comes back as it is.
func (db *DB) View(ctx context.Context, fn func(*Tx) error) error {
	return db.snapshot(ctx, func(tx *gorm.DB) error {
		view := &Tx{tx: tx, count: db.count, stored: map[int64]state{}}
		totals, err := readTotals(tx)
		if err != nil {
			return translate(ctx, "read the counters", err)
		}
		view.Totals = totals
		return fn(view)
	})
}

// Entry returns that version of a key, which may be a tombstone or destroyed, as
// the transaction sees it, and whether it is there.
func (t *Tx) Entry(key string, keyID, version int64) (kv.Entry, bool, error) {
	return t.entry(key, version, "SELECT "+entryColumns+` FROM versions JOIN keys ON keys.id = versions.key_id
		WHERE unlikely(versions.key_id = ?) AND unlikely(versions.version = ?)`, keyID, version)
}

// latestOfSQL reads many latest versions.
const latestOfSQL = "SELECT " + entryColumns + ` FROM versions JOIN keys ON keys.id = versions.key_id
	WHERE unlikely(versions.revision IN ?)`

// LatestOf returns the versions that those heads name, in few statements. It leaves out what
// is not there or is damaged, which Entry tells, and stops when the values have more than
// maxBytes.
func (t *Tx) LatestOf(heads map[string]Head, maxBytes int64) (map[string]kv.Entry, error) {
	revisions := make([]int64, 0, len(heads))
	for _, head := range heads {
		revisions = append(revisions, head.Revision)
	}
	slices.Sort(revisions) // as they lie on disk
	found := make(map[string]kv.Entry, len(heads))
	for rest := revisions; len(rest) > 0 && maxBytes >= 0; {
		n := min(len(rest), statementRows[0])
		rows, err := t.tx.Raw(latestOfSQL, padded(rest[:n])).Rows()
		if err == nil {
			maxBytes, err = scanLatest(rows, heads, found, maxBytes)
		}
		if err != nil {
			return nil, translate(t.tx.Statement.Context, "read entries", err)
		}
		rest = rest[n:]
	}
	return found, nil
}

func scanLatest(rows *sql.Rows, heads map[string]Head, found map[string]kv.Entry, left int64) (int64, error) {
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for left >= 0 && rows.Next() {
		var v storedVersion
		if err := rows.Scan(append([]any{&v.Key}, v.fields()...)...); err != nil {
			continue
		}
		left -= v.size
		if head := heads[v.Key]; head.Version == v.Version && head.Revision == v.Revision && v.checkAll() == nil {
			found[v.Key] = v.Entry
		}
	}
	return left, rows.Err()
}

// LastValue returns the newest version of a key before that one that is no
// tombstone, and whether there is one.
func (t *Tx) LastValue(key string, keyID, before int64) (kv.Entry, bool, error) {
	return t.entry(key, 0, "SELECT "+entryColumns+` FROM versions JOIN keys ON keys.id = versions.key_id
		WHERE unlikely(versions.key_id = ?) AND versions.version < ? AND versions.operation NOT IN ?
		ORDER BY versions.version DESC LIMIT 1`, keyID, before, tombstones)
}

func (t *Tx) entry(key string, version int64, query string, args ...any) (kv.Entry, bool, error) {
	entry, found, err := scanEntry(t.tx.Raw(query, args...).Row(), key, version)
	t.count(&err)
	return entry, found, translate(t.tx.Statement.Context, "read an entry", err)
}

// Described is Entry without the value, which is not read.
func (t *Tx) Described(key string, keyID, version int64) (kv.Entry, bool, error) {
	v, found, err := t.describe(key, keyID, version)
	return v.Entry, found, err
}

func (t *Tx) describe(key string, keyID, version int64) (storedVersion, bool, error) {
	v := storedVersion{Entry: kv.Entry{Key: key}}
	err := t.tx.Raw("SELECT "+versionColumns+", NULL FROM versions WHERE unlikely(key_id = ?) AND unlikely(version = ?)", keyID, version).Row().
		Scan(v.fields()...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return v, false, nil
	case err == nil && v.Version != version:
		err = damaged(key, version, "the index leads to another version")
	case err == nil:
		err = v.check()
	}
	t.count(&err)
	return v, err == nil, translate(t.tx.Statement.Context, "describe an entry", scanned(err, key, version))
}
