package database

import (
	"maps"
	"slices"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"kvstore/backend/kv"
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
	if err := t.readErased(heads, failed, fresh); err != nil {
		return nil, nil, translate(t.tx.Statement.Context, "look for erased keys", err)
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

const erasedKeysSQL = "SELECT digest, version, checksum FROM erased WHERE unlikely(digest IN ?)"

// readErased adds the heads of those of keys, which are not stored, that were erased.
func (t *Tx) readErased(heads map[string]Head, failed map[string]error, keys []string) error {
	for rest := keys; len(rest) > 0; {
		n := min(len(rest), statementRows[0])
		if err := t.readErasedPiece(heads, failed, padded(rest[:n])); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

func (t *Tx) readErasedPiece(heads map[string]Head, failed map[string]error, keys []string) error {
	digests, names := make([][]byte, len(keys)), make(map[string]string, len(keys))
	for i, key := range keys {
		digests[i] = digest(key)
		names[string(digests[i])] = key
	}
	rows, err := t.tx.Raw(erasedKeysSQL, digests).Rows()
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for rows.Next() {
		var digest []byte
		var version, checksum int64
		if err := rows.Scan(&digest, &version, &checksum); err != nil {
			return err
		}
		if key := names[string(digest)]; checksum != erasedChecksum(digest, version) {
			failed[key] = damagedErased(key)
		} else {
			heads[key] = Head{Version: version}
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

// rememberedHeads bounds the heads that are remembered. One takes about 200 bytes and
// its key.
const rememberedHeads = 8192

// memory is what Update knows without reading it: the counters, and the heads of the
// keys that were written last. That is right because this process alone writes the
// file, and only through Update, which changes the memory after each commit. With a
// database that several processes share, nothing may be remembered.
type memory struct {
	mu     sync.Mutex // held by Update from its begin to its end
	totals *kv.Totals // nil when they must be read
	heads  *simplelru.LRU[string, Head]
}

func newMemory() (*memory, error) {
	heads, err := simplelru.NewLRU[string, Head](rememberedHeads, nil)
	return &memory{heads: heads}, err
}

// learnLocked takes what a transaction has committed.
func (m *memory) learnLocked(t *Tx) {
	totals := t.Totals
	m.totals = &totals
	for key, head := range t.changed {
		m.heads.Add(key, head)
	}
	for _, key := range t.uncertain {
		m.heads.Remove(key)
	}
}

// forgetLocked is for when it is not known whether a transaction was committed.
func (m *memory) forgetLocked() {
	m.totals = nil
	m.heads.Purge()
}
