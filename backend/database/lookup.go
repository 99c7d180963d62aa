package database

import "kvstore/backend/kv"

// Entry returns that version of a key, which may be a tombstone or destroyed, as
// the transaction sees it, and whether it is there.
func (t *Tx) Entry(keyID, version int64) (kv.Entry, bool, error) {
	return t.entry("SELECT "+entryColumns+` FROM versions JOIN keys ON keys.id = versions.key_id
		WHERE versions.key_id = ? AND versions.version = ?`, keyID, version)
}

// LastValue returns the newest version of a key before that one that is no
// tombstone, and whether there is one.
func (t *Tx) LastValue(keyID, before int64) (kv.Entry, bool, error) {
	return t.entry("SELECT "+entryColumns+` FROM versions JOIN keys ON keys.id = versions.key_id
		WHERE versions.key_id = ? AND versions.version < ? AND versions.operation NOT IN ?
		ORDER BY versions.version DESC LIMIT 1`, keyID, before, tombstones)
}

func (t *Tx) entry(query string, args ...any) (kv.Entry, bool, error) {
	entry, found, err := scanEntry(t.tx.Raw(query, args...).Row())
	return entry, found, translate(t.tx.Statement.Context, "read an entry", err)
}
