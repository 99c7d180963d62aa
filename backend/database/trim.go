package database

import (
	"strings"

	"kvstore/backend/kv"
)

// trimSlack is how many more versions of a key Save removes than it adds. So each write
// shortens a history that is too long, and none takes long.
const trimSlack = 8

// A VersionID identifies a version in the database.
type VersionID struct{ Key, Version int64 }

// removed is what must be known of a version that was removed.
type removed struct {
	VersionID
	revision  int64
	destroyed bool
}

// These hold the statements that find and delete versions, by the number of versions.
var (
	findSQL   = removedSQL("SELECT "+removedColumns+" FROM versions", "")
	removeSQL = removedSQL("DELETE FROM versions", " RETURNING "+removedColumns)
)

const removedColumns = "key_id, version, revision, destroyed"

func removedSQL(before, after string) map[int]string {
	statements := map[int]string{}
	for _, n := range statementRows {
		statements[n] = before + " WHERE (key_id, version) IN (VALUES (CAST(? AS bigint), CAST(? AS bigint))" +
			strings.Repeat(", (?, ?)", n-1) + ")" + after
	}
	return statements
}

// removeVersions deletes versions and returns those that existed.
func (t *Tx) removeVersions(ids []VersionID) (all []removed, err error) {
	t.wrote = t.wrote || len(ids) > 0
	if t.staged != nil {
		return t.findVersions(ids)
	}
	for _, n := range statementRows {
		for ; len(ids) >= n; ids = ids[n:] {
			if all, err = t.readRemoved(all, removeSQL[n], ids[:n]); err != nil {
				return nil, Translate(t.tx, "delete versions", err)
			}
		}
	}
	return all, nil
}

func (t *Tx) readRemoved(all []removed, query string, ids []VersionID) ([]removed, error) {
	args := make([]any, 0, 2*len(ids))
	for _, id := range ids {
		args = append(args, id.Key, id.Version)
	}
	rows, err := t.tx.Raw(query, args...).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for rows.Next() {
		var r removed
		if err := rows.Scan(&r.Key, &r.Version, &r.revision, &r.destroyed); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// trim removes the oldest versions of keys, so that each has MaxVersions at most, and updates
// their heads. It returns the entries to store, without those that would go at once. Of a history
// that was too long before, it removes only a few versions more. A damaged version does not
// prevent the write.
func (t *Tx) trim(keys []*loadedKey, added map[*loadedKey]int64, entries []kv.Entry) ([]kv.Entry, error) {
	var ids []VersionID
	trimmed := make(map[int64]*loadedKey, len(keys))
	for _, k := range keys {
		from := max(k.head.CompleteFrom, 1)
		through := min(k.head.Version-t.MaxVersions, from+added[k]+trimSlack-1)
		for version := from; version <= min(through, k.head.Version-added[k]); version++ {
			ids = append(ids, VersionID{k.head.ID, version})
		}
		if through >= from {
			trimmed[k.head.ID] = k
			k.head.CompleteFrom = through + 1
		}
	}
	gone, err := t.removeVersions(ids)
	t.Trimmed += len(gone)
	for _, r := range gone {
		t.lose(trimmed[r.Key], r)
	}
	if len(trimmed) == 0 {
		return entries, err
	}
	stay := make([]kv.Entry, 0, len(entries))
	for _, e := range entries {
		k := t.keys[e.Key]
		if e.Version >= k.head.CompleteFrom {
			stay = append(stay, e)
			continue
		}
		t.Trimmed++
		t.lose(k, removed{VersionID{k.head.ID, e.Version}, e.Revision, false})
	}
	return stay, err
}

// lose updates the head of a key that has lost one of its oldest versions, and the totals.
func (t *Tx) lose(k *loadedKey, r removed) {
	if !r.destroyed { // else it is not counted
		k.head.TotalVersions--
		t.Totals.Versions--
	}
	k.head.CompleteFrom = max(k.head.CompleteFrom, r.Version+1)
	k.head.Pruned = max(k.head.Pruned, r.revision)
	t.Totals.Compacted = max(t.Totals.Compacted, r.revision)
}
