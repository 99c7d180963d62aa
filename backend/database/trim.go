package database

import (
	"fmt"
	"strings"

	"kvstore/backend/kv"
)

// trimSlack is how many more versions of a key Save removes than it adds. So each write
// shortens a history that is too long, and none takes long.
const trimSlack = 8

// A versionID identifies a version in the database.
type versionID struct{ key, version int64 }

// removed is what must be known of a version that was removed.
type removed struct {
	versionID
	revision  int64
	destroyed bool
}

// removeSQL holds the statements that delete versions, by the number of versions.
var removeSQL = func() map[int]string {
	statements := map[int]string{}
	for _, n := range statementRows {
		statements[n] = fmt.Sprintf(`DELETE FROM versions
			WHERE (key_id, version) IN (VALUES (CAST(? AS bigint), CAST(? AS bigint))%s)
			RETURNING key_id, version, revision, destroyed`, strings.Repeat(", (?, ?)", n-1))
	}
	return statements
}()

// removeVersions deletes versions and returns those that existed.
func (t *Tx) removeVersions(ids []versionID) (all []removed, err error) {
	t.wrote = t.wrote || len(ids) > 0
	for _, n := range statementRows {
		for ; len(ids) >= n; ids = ids[n:] {
			if all, err = t.removePiece(all, ids[:n]); err != nil {
				return nil, Translate(t.tx, "delete versions", err)
			}
		}
	}
	return all, nil
}

func (t *Tx) removePiece(all []removed, ids []versionID) ([]removed, error) {
	args := make([]any, 0, 2*len(ids))
	for _, id := range ids {
		args = append(args, id.key, id.version)
	}
	rows, err := t.tx.Raw(removeSQL[len(ids)], args...).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for rows.Next() {
		var r removed
		if err := rows.Scan(&r.key, &r.version, &r.revision, &r.destroyed); err != nil {
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
	var ids []versionID
	trimmed := make(map[int64]*loadedKey, len(keys))
	for _, k := range keys {
		from := max(k.head.CompleteFrom, 1)
		through := min(k.head.Version-t.MaxVersions, from+added[k]+trimSlack-1)
		for version := from; version <= min(through, k.head.Version-added[k]); version++ {
			ids = append(ids, versionID{k.head.ID, version})
		}
		if through >= from {
			trimmed[k.head.ID] = k
			k.head.CompleteFrom = through + 1
		}
	}
	gone, err := t.removeVersions(ids)
	t.Trimmed += len(gone)
	for _, r := range gone {
		t.lose(trimmed[r.key], r)
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
		t.lose(k, removed{versionID{k.head.ID, e.Version}, e.Revision, false})
	}
	return stay, err
}

// lose updates the head of a key that has lost one of its oldest versions, and the totals.
func (t *Tx) lose(k *loadedKey, r removed) {
	if !r.destroyed { // else it is not counted
		k.head.TotalVersions--
		t.Totals.Versions--
	}
	k.head.CompleteFrom = max(k.head.CompleteFrom, r.version+1)
	k.head.Pruned = max(k.head.Pruned, r.revision)
	t.Totals.Compacted = max(t.Totals.Compacted, r.revision)
}
