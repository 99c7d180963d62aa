package database

import (
	"database/sql"
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
		if head, ok := t.remembered(key); ok {
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
	if err := t.readAbsent(heads, failed, fresh); err != nil {
		return nil, nil, translate(t.tx.Statement.Context, "look for keys", err)
	}
	for _, err := range failed {
		t.count(&err)
	}
	return heads, failed, nil
}

// remembered returns a head that need not be read. A View remembers none.
func (t *Tx) remembered(key string) (Head, bool) {
	if t.memory == nil {
		return Head{}, false
	}
	return t.memory.heads.Get(key)
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

// absentKeysSQL looks for keys that were not found in the other indexes, as absent does: a
// key that is hidden by a flipped bit must not begin anew with version 1. It looks among
// the erased keys too.
const absentKeysSQL = `SELECT key, NULL, 0, 0 FROM keys INDEXED BY keys_live WHERE unlikely(key IN ?) AND NOT deleted
	UNION ALL SELECT key, NULL, 0, 0 FROM keys INDEXED BY keys_deleted WHERE unlikely(key IN ?) AND deleted
	UNION ALL SELECT NULL, digest, version, checksum FROM erased WHERE unlikely(digest IN ?)`

// readAbsent adds the heads of those of keys, which are not stored, that were erased.
func (t *Tx) readAbsent(heads map[string]Head, failed map[string]error, keys []string) error {
	for rest := keys; len(rest) > 0; {
		n := min(len(rest), statementRows[0])
		if err := t.readAbsentPiece(heads, failed, padded(rest[:n])); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

func (t *Tx) readAbsentPiece(heads map[string]Head, failed map[string]error, keys []string) error {
	digests, names := make([][]byte, len(keys)), make(map[string]string, len(keys))
	for i, key := range keys {
		digests[i] = digest(key)
		names[string(digests[i])] = key
	}
	rows, err := t.tx.Raw(absentKeysSQL, keys, keys, digests).Rows()
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for rows.Next() {
		var key sql.NullString
		var digest []byte
		var version, checksum int64
		if err := rows.Scan(&key, &digest, &version, &checksum); err != nil {
			return err
		}
		switch erased := names[string(digest)]; {
		case key.Valid:
			failed[key.String] = damaged(key.String, 0, "its indexes differ")
		case checksum != erasedChecksum(digest, version):
			failed[erased] = damagedErased(erased)
		default:
			heads[erased] = Head{Version: version}
		}
	}
	return rows.Err()
}

// saveHead writes the head of a stored key that changed without a new version.
func (t *Tx) saveHead(key string, head Head) error {
	return upsertKeys.exec(t.tx, [][]any{rowOf(key, head)})
}

func rowOf(key string, head Head) []any {
	return []any{
		head.ID, key, head.Version, head.Revision, int64(head.Time), head.TotalVersions,
		head.Deleted, int64(head.Expires), head.CompleteFrom, head.Pruned, keyChecksum(key, head),
	}
}
