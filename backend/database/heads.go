package database

import (
	"maps"
	"slices"
)

// Heads returns the heads of those of keys that are stored or were erased. When one of
// them is damaged it fails with kv.ErrCorrupt.
func (t *Tx) Heads(keys []string) (map[string]Head, error) {
	heads, failed, err := t.SoundHeads(keys)
	for _, key := range slices.Sorted(maps.Keys(failed)) {
		return nil, failed[key]
	}
	return heads, err
}

// SoundHeads is Heads for keys of which some may be damaged: these have an error each,
// and no head. Nothing may be written to them: which version would be the next is not
// known.
func (t *Tx) SoundHeads(keys []string) (heads map[string]Head, failed map[string]error, err error) {
	heads, failed = make(map[string]Head, len(keys)), map[string]error{}
	var unknown []string
	for _, key := range keys {
		if head, ok := t.memory.heads.Get(key); ok {
			heads[key] = head
			t.stored[head.ID] = head.state()
		} else {
			unknown = append(unknown, key)
		}
	}
	var fresh []string
	for rest := unknown; len(rest) > 0; {
		n := min(len(rest), statementRows[0])
		if err := t.readHeads(heads, failed, padded(rest[:n])); err != nil {
			return nil, nil, translate(t.tx.Statement.Context, "read heads", err)
		}
		rest = rest[n:]
	}
	for _, key := range unknown {
		if _, stored := heads[key]; !stored && failed[key] == nil {
			fresh = append(fresh, key)
		}
	}
	if err := t.confirmAbsent(fresh, failed); err != nil {
		return nil, nil, translate(t.tx.Statement.Context, "look for keys", err)
	}
	err = t.addErased(heads, failed, fresh)
	for _, err := range failed {
		t.count(&err)
	}
	return heads, failed, err
}

func (t *Tx) readHeads(heads map[string]Head, failed map[string]error, keys []string) error {
	rows, err := t.tx.Raw("SELECT "+keyRowColumns+" FROM keys WHERE unlikely(key IN ?)", keys).Rows()
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for rows.Next() {
		var k storedKey
		if err := rows.Scan(k.fields()...); err != nil {
			return err
		}
		// The key is that of the row or of the index, whichever SQLite has at hand; if they
		// differ one of them is not what was asked for, or the checksum does not fit.
		if err := k.check(); err != nil {
			failed[k.key] = err
			continue
		}
		heads[k.key] = k.head
		t.stored[k.head.ID] = k.head.state()
	}
	return rows.Err()
}

// confirmAbsent looks for keys that were not found in the other indexes, as absent does:
// a key that is hidden by a flipped bit must not begin anew with version 1.
func (t *Tx) confirmAbsent(keys []string, failed map[string]error) error {
	for rest := keys; len(rest) > 0; {
		n := min(len(rest), statementRows[0])
		names := padded(rest[:n])
		for _, query := range []string{
			"SELECT key FROM keys INDEXED BY keys_live WHERE unlikely(key IN ?) AND NOT deleted",
			"SELECT key FROM keys INDEXED BY keys_deleted WHERE unlikely(key IN ?) AND deleted",
		} {
			var found []string
			if err := t.tx.Raw(query, names).Scan(&found).Error; err != nil {
				return err
			}
			for _, key := range found {
				failed[key] = damaged(key, 0, "its indexes differ")
			}
		}
		rest = rest[n:]
	}
	return nil
}

// addErased adds to heads those of keys that are not stored because they were
// erased.
func (t *Tx) addErased(heads map[string]Head, failed map[string]error, keys []string) error {
	if !t.erased {
		return nil
	}
	for _, key := range keys {
		if failed[key] != nil {
			continue
		}
		var found []erasedRow
		digest := digest(key)
		if err := t.tx.Raw("SELECT version, checksum FROM erased WHERE unlikely(digest = ?)", digest).Scan(&found).Error; err != nil {
			return translate(t.tx.Statement.Context, "look for an erased key", err)
		}
		for _, row := range found {
			if row.Checksum != erasedChecksum(digest, row.Version) {
				failed[key] = damaged(key, 0, "how far it had counted before it was erased")
				continue
			}
			heads[key] = Head{Version: row.Version}
		}
	}
	return nil
}

// saveHead writes the head of a stored key that changed without a new version.
func (t *Tx) saveHead(key string, head Head) error {
	return upsertKeys.exec(t.tx, [][]any{rowOf(key, head)})
}

func rowOf(key string, head Head) []any {
	return []any{
		head.ID, key, head.Version, head.Revision, int64(head.Time), head.TotalVersions,
		head.Deleted, int64(head.Expires), head.CompleteFrom, keyChecksum(key, head),
	}
}
