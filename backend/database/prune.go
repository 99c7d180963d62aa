package database

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"kvstore/backend/kv"
)

// A Retention says which versions may go. The latest version of a key never may, unless it
// is a tombstone.
type Retention struct {
	// MaxVersions is how many of the newest versions of a key stay; 0 means all.
	MaxVersions int64
	// Before lets versions go that were written earlier, and keys that ended earlier; 0
	// means none.
	Before kv.Timestamp
}

const (
	// searchedKeys is how many keys one search looks at.
	searchedKeys = 4096
	// candidatesSQL finds, among some keys, those whose oldest version may go. Versions go
	// from the oldest on, and their times do not run backwards, so the oldest tells enough.
	candidatesSQL = `SELECT keys.key FROM keys JOIN versions ON versions.key_id = keys.id
		AND versions.version = (SELECT min(version) FROM versions WHERE key_id = keys.id)
	WHERE keys.id > ? AND keys.id <= ? AND (keys.deleted AND keys.timestamp < ? OR versions.version < keys.version
		AND (versions.version <= keys.version - ? OR versions.timestamp < ?))
	ORDER BY keys.id`
	prunableSQL = "SELECT " + versionColumns + `, NULL FROM versions
		WHERE key_id = ? AND version < ? ORDER BY version LIMIT ?`
)

// keepAll is more versions than a key can have.
const keepAll = 1 << 62

func (r Retention) maxVersions() int64 {
	if r.MaxVersions == 0 {
		return keepAll
	}
	return r.MaxVersions
}

// ended reports whether a key may go whole.
func (r Retention) ended(head Head) bool { return head.Deleted && head.Time < r.Before }

// Prunables looks at some keys, in the order of their ids from the one behind after on, and
// returns those that have versions which may go. last is where the next search goes on, 0
// when there are no more.
func (db *DB) Prunables(ctx context.Context, r Retention, after int64) (found []string, last int64, err error) {
	readers := db.readers.WithContext(ctx)
	var looked int
	err = readers.Raw("SELECT count(*), coalesce(max(id), 0) FROM (SELECT id FROM keys WHERE id > ? ORDER BY id LIMIT ?) AS few", after, searchedKeys).
		Row().Scan(&looked, &last)
	if err == nil && looked > 0 {
		err = readers.Raw(candidatesSQL, after, last, int64(r.Before), r.maxVersions(), int64(r.Before)).Scan(&found).Error
	}
	if looked < searchedKeys {
		last = 0
	}
	return found, last, Translate(readers, "find versions that may go", err)
}

// A Pruned is what Prune did.
type Pruned struct {
	// Versions is how many were deleted.
	Versions int
	// Left are keys that may have more to delete.
	Left []string
	// Failed has why nothing was deleted of a key: it is damaged.
	Failed map[string]error
}

// Prune deletes the oldest versions of keys that may go, and keys that have ended whole, in
// one transaction of about limit versions. Their numbers are not used again.
func (db *DB) Prune(ctx context.Context, keys []string, r Retention, limit int) (done Pruned, err error) {
	err = db.Update(ctx, func(tx *Tx) (err error) {
		done, err = tx.prune(keys, r, limit)
		return Translate(tx.tx, "prune", err)
	})
	return done, err
}

func (t *Tx) prune(keys []string, r Retention, limit int) (done Pruned, err error) {
	if err := t.direct(); err != nil {
		return done, err
	}
	if err := t.Load(keys...); err != nil {
		return done, err
	}
	done.Failed = map[string]error{}
	var ids []VersionID
	names := map[int64]*loadedKey{}
	for i, key := range keys {
		if done.Versions+len(ids) >= limit {
			done.Left = keys[i:]
			break
		}
		switch k := t.keys[key]; {
		case k.err != nil:
			done.Failed[key] = k.err
		case k.head.ID == 0:
		case r.ended(k.head):
			before := t.Totals.Versions
			whole, err := t.Erase(key, k.head.Version)
			if err != nil {
				return done, err
			}
			done.Versions += int(before - t.Totals.Versions)
			if !whole {
				done.Left = keys[i:]
				limit = 0
			}
		default:
			found, more, err := t.prunable(key, k.head, r, limit-len(ids))
			if errors.Is(err, kv.ErrCorrupt) {
				t.count(&err)
				done.Failed[key] = err
				continue
			}
			if err != nil {
				return done, err
			}
			ids, names[k.head.ID] = append(ids, found...), k
			if more {
				done.Left = keys[i:]
				limit = 0
			}
		}
		if limit == 0 {
			break
		}
	}
	done.Versions += len(ids)
	return done, t.pruneVersions(names, ids)
}

// pruneVersions deletes versions of keys, by the id of each, and saves their heads.
func (t *Tx) pruneVersions(names map[int64]*loadedKey, ids []VersionID) error {
	gone, err := t.removeVersions(ids)
	if err != nil {
		return err
	}
	changed := map[*loadedKey]bool{}
	for _, r := range gone {
		changed[names[r.Key]] = true
		t.lose(names[r.Key], r)
	}
	return t.saveHeads(slices.Collect(maps.Keys(changed)))
}

// prunable returns the oldest versions of a key as far as they may go, and whether there
// may be more. One that is damaged is an error, since its time may be what is damaged; and
// so are times that run backwards.
func (t *Tx) prunable(key string, head Head, r Retention, limit int) (found []VersionID, more bool, err error) {
	rows, err := t.tx.Raw(prunableSQL, head.ID, head.Version, limit+2).Rows()
	if err != nil {
		return nil, false, translateRow(t.tx, "prune", err, key, 0)
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	before := kv.Timestamp(0)
	stays := 0
	for bytes := int64(0); stays < 2 && rows.Next(); {
		v := storedVersion{Entry: kv.Entry{Key: key}}
		if err := rows.Scan(v.fields()...); err != nil {
			return nil, false, translateRow(t.tx, "prune", err, key, v.Version)
		}
		if err := v.check(); err != nil {
			return nil, false, err
		}
		if v.Time < before {
			return nil, false, damaged(key, v.Version, fmt.Sprintf("it is of the time %d, and the one before it of %d", v.Time, before))
		}
		before = v.Time
		switch may := v.Version <= head.Version-r.maxVersions() || v.Time < r.Before; {
		case !may || stays > 0:
			stays++
		case len(found) == limit || bytes >= erasedBytes:
			return found, true, rows.Err()
		default:
			found = append(found, VersionID{head.ID, v.Version})
			bytes += v.size
		}
	}
	return found, false, translateRow(t.tx, "prune", rows.Err(), key, 0)
}
