package database

import (
	"fmt"
	"strings"

	"kvstore/backend/kv"
)

// trimSlack is how many versions of a key Append removes beyond as many as it adds, so
// that a history which is too long becomes shorter with each write and makes none long.
const trimSlack = 8

// A versionID names a version within the database.
type versionID struct{ key, version int64 }

// A removed version is what must be known of it afterwards.
type removed struct {
	versionID
	revision  int64
	destroyed bool
}

// removeSQL are the statements that delete versions, by the number of them, one of
// statementRows.
var removeSQL = func() map[int]string {
	statements := map[int]string{}
	for _, n := range statementRows {
		statements[n] = fmt.Sprintf("DELETE FROM versions WHERE (key_id, version) IN (VALUES %s(?, ?)) RETURNING key_id, version, revision, destroyed",
			strings.Repeat("(?, ?), ", n-1))
	}
	return statements
}()

// removeVersions deletes versions and returns those that were there.
func (t *Tx) removeVersions(ids []versionID) (all []removed, err error) {
	t.wrote = t.wrote || len(ids) > 0
	for _, n := range statementRows {
		for ; len(ids) >= n; ids = ids[n:] {
			if all, err = t.removePiece(all, ids[:n]); err != nil {
				return nil, translate(t.tx.Statement.Context, "delete versions", err)
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

// trim removes the oldest versions of the keys of heads, so that each has Keep at most,
// moves their heads on, and returns those of entries that stay: others are not stored at
// all. It makes up for the entries and a few versions more. One that is damaged or hidden
// does not keep others from being written.
func (t *Tx) trim(heads map[string]Head, entries []kv.Entry) ([]kv.Entry, error) {
	added := make(map[string]int64, len(heads))
	for i := range entries {
		added[entries[i].Key]++
	}
	var ids []versionID
	names := make(map[int64]string, len(heads))
	for key, head := range heads {
		from := max(head.CompleteFrom, 1)
		through := min(head.Version-t.Keep, from+added[key]+trimSlack-1)
		for version := from; version <= min(through, head.Version-added[key]); version++ {
			ids = append(ids, versionID{head.ID, version})
		}
		if through >= from {
			names[head.ID] = key
			head.CompleteFrom = through + 1
			heads[key] = head
		}
	}
	gone, err := t.removeVersions(ids)
	t.Trimmed += len(gone)
	for _, r := range gone {
		heads[names[r.key]] = t.without(heads[names[r.key]], r)
	}
	if len(names) == 0 {
		return entries, err
	}
	kept := make([]kv.Entry, 0, len(entries))
	for _, e := range entries {
		head := heads[e.Key]
		if e.Version >= head.CompleteFrom {
			kept = append(kept, e)
			continue
		}
		t.Trimmed++
		heads[e.Key] = t.without(head, removed{versionID{head.ID, e.Version}, e.Revision, false})
	}
	return kept, err
}

// without returns the head of a key that has lost one of its oldest versions, and counts
// it out.
func (t *Tx) without(head Head, r removed) Head {
	if !r.destroyed { // else it was counted out before
		head.TotalVersions--
		t.Totals.Versions--
	}
	head.CompleteFrom = max(head.CompleteFrom, r.version+1)
	head.Pruned = max(head.Pruned, r.revision)
	t.Totals.Compacted = max(t.Totals.Compacted, r.revision)
	return head
}
