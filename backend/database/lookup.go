package database

import (
	"database/sql"
	"errors"

	"kvstore/backend/kv"
)

// Entry returns that version of a key, which may be a tombstone or destroyed, as
// the transaction sees it, and whether it is there.
func (t *Tx) Entry(key string, keyID, version int64) (kv.Entry, bool, error) {
	return t.entry(key, version, "SELECT "+entryColumns+` FROM versions JOIN keys ON keys.id = versions.key_id
		WHERE unlikely(versions.key_id = ?) AND unlikely(versions.version = ?)`, keyID, version)
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
