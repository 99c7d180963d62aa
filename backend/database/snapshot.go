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
		return Translate(tx, "begin", tx.Error)
	}
	defer tx.Rollback() // there is nothing to commit
	return fn(tx)
}

// View runs fn in a transaction that reads: what fn reads is of one moment, all that was
// committed before View was called, and no write waits for it. fn may use what reads of a
// Tx. An error of fn comes back as it is.
func (db *DB) View(ctx context.Context, fn func(*Tx) error) error {
	return db.snapshot(ctx, func(tx *gorm.DB) error {
		view := &Tx{tx: tx, count: db.count, keys: map[string]*loadedKey{}}
		totals, err := readTotals(tx)
		if err != nil {
			return Translate(tx, "read the counters", err)
		}
		view.Totals = totals
		return fn(view)
	})
}

// Entry returns that version of a loaded key as the transaction sees it, which may be a
// tombstone or destroyed. The error is kv.ErrKeyNotFound, kv.ErrVersionNotFound or
// kv.ErrVersionGone when there is none.
func (t *Tx) Entry(key string, version int64) (kv.Entry, error) {
	if e, found := t.unsaved(key, version); found {
		return e, nil
	}
	if e, found := t.latest[key]; found && e.Version == version {
		return e, nil
	}
	e, found, err := t.entry(key, version, "SELECT "+entryColumns+` FROM versions JOIN keys ON keys.id = versions.key_id
		WHERE versions.key_id = ? AND versions.version = ?`, t.keys[key].head.ID, version)
	if err == nil && !found {
		err = t.missing(key, version)
	}
	return e, err
}

// Described is Entry without the value, which is not read.
func (t *Tx) Described(key string, version int64) (kv.Entry, error) {
	if e, found := t.unsaved(key, version); found {
		return e, nil
	}
	v, found, err := t.describe(key, version)
	if err == nil && !found {
		err = t.missing(key, version)
	}
	return v.Entry, err
}

// missing returns why a loaded key lacks a version.
func (t *Tx) missing(key string, version int64) error {
	head := t.keys[key].head
	if head.ID == 0 && version > head.Version {
		return kv.KeyNotFound(key)
	}
	err := head.missing(key, version)
	t.count(&err)
	return err
}

// unsaved returns a version that Save has still to write.
func (t *Tx) unsaved(key string, version int64) (kv.Entry, bool) {
	for _, e := range slices.Backward(t.appended) {
		if e.Key == key && e.Version == version {
			return e, true
		}
	}
	return kv.Entry{}, false
}

// latestOfSQL reads many latest versions.
const latestOfSQL = "SELECT " + entryColumns + ` FROM versions JOIN keys ON keys.id = versions.key_id
	WHERE versions.revision IN ?`

// Latest reads the latest versions of loaded keys in few statements, and keeps them for Entry.
// It leaves out versions that are missing or damaged, for which Entry returns the error, and
// stops when the values have more than maxBytes.
func (t *Tx) Latest(keys []string, maxBytes int64) (map[string]kv.Entry, error) {
	revisions := make([]int64, 0, len(keys))
	for _, key := range keys {
		revisions = append(revisions, t.keys[key].head.Revision)
	}
	slices.Sort(revisions) // as they lie on disk
	t.latest = make(map[string]kv.Entry, len(keys))
	err := pieces(revisions, func(some []int64) error {
		if maxBytes < 0 {
			return nil
		}
		rows, err := t.tx.Raw(latestOfSQL, some).Rows()
		if err == nil {
			maxBytes, err = t.scanLatest(rows, maxBytes)
		}
		return err
	})
	return t.latest, Translate(t.tx, "read entries", err)
}

func (t *Tx) scanLatest(rows *sql.Rows, left int64) (int64, error) {
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for left >= 0 && rows.Next() {
		var v storedVersion
		if err := rows.Scan(v.entryFields()...); err != nil {
			continue
		}
		left -= v.size
		if k := t.keys[v.Key]; k != nil && k.head.Version == v.Version && k.head.Revision == v.Revision && v.checkAll() == nil {
			t.latest[v.Key] = v.Entry
		}
	}
	return left, rows.Err()
}

// LastValue returns the newest version of a loaded key before that one that is no
// tombstone, or kv.ErrVersionGone.
func (t *Tx) LastValue(key string, before int64) (kv.Entry, error) {
	for _, e := range slices.Backward(t.appended) {
		if e.Key == key && e.Version < before && !e.Operation.Tombstone() {
			return e, nil
		}
	}
	e, found, err := t.entry(key, 0, "SELECT "+entryColumns+` FROM versions JOIN keys ON keys.id = versions.key_id
		WHERE versions.key_id = ? AND versions.version < ? AND versions.operation NOT IN ?
		ORDER BY versions.version DESC LIMIT 1`, t.keys[key].head.ID, before, tombstones)
	if err == nil && !found {
		err = kv.VersionGone(key, before-1)
	}
	return e, err
}

func (t *Tx) entry(key string, version int64, query string, args ...any) (kv.Entry, bool, error) {
	entry, found, err := findEntry(t.tx, key, version, query, args...)
	t.count(&err)
	return entry, found, err
}

func (t *Tx) describe(key string, version int64) (storedVersion, bool, error) {
	v := storedVersion{Entry: kv.Entry{Key: key}}
	err := t.tx.Raw("SELECT "+versionColumns+", NULL FROM versions WHERE key_id = ? AND version = ?",
		t.keys[key].head.ID, version).Row().Scan(v.fields()...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return v, false, nil
	case err == nil && v.Version != version:
		err = damaged(key, version, "the index leads to another version")
	case err == nil:
		err = v.check()
	}
	err = translateRow(t.tx, "describe an entry", err, key, version)
	t.count(&err)
	return v, err == nil, err
}
