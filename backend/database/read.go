package database

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

const (
	// latestSQL has a row even if the version of the key is missing, which is an error then.
	latestSQL  = "SELECT " + entryColumns + " FROM keys LEFT JOIN versions ON " + sameVersion + " WHERE keys.key = ?"
	versionSQL = "SELECT " + entryColumns + ` FROM keys JOIN versions ON versions.key_id = keys.id
		WHERE keys.key = ? AND versions.version = ?`
)

// Latest returns the latest version of key, which may be a tombstone, or
// kv.ErrKeyNotFound.
func (db *DB) Latest(ctx context.Context, key string) (entry kv.Entry, err error) {
	defer db.count(&err)
	entry, found, err := findEntry(db.readers.WithContext(ctx), key, 0, latestSQL, key)
	if err == nil && !found {
		err = kv.KeyNotFound(key)
	}
	return entry, err
}

// Version returns that version of key, which may be a tombstone or destroyed,
// kv.ErrVersionGone when it was removed, or kv.ErrVersionNotFound.
func (db *DB) Version(ctx context.Context, key string, version int64) (entry kv.Entry, err error) {
	defer db.count(&err)
	entry, found, err := findEntry(db.readers.WithContext(ctx), key, version, versionSQL, key, version)
	if err != nil || found {
		return entry, err
	}
	err = db.snapshot(ctx, func(tx *gorm.DB) error {
		entry, err = explained(tx, key, version)
		return err
	})
	return entry, err
}

// explained returns the reason why a version was not found, or the version if it is there now.
func explained(tx *gorm.DB, key string, version int64) (kv.Entry, error) {
	head, found, err := findKey(tx, key)
	if err == nil && !found { // it may have been erased
		head.Version, err = erasedVersion(tx, key)
	}
	if err != nil {
		return kv.Entry{}, err
	}
	entry, found, err := findEntry(tx, key, version, versionSQL, key, version)
	if err == nil && !found {
		err = head.missing(key, version)
	}
	return entry, err
}

// atSQL finds the last version of a key up to a time, and the next one, by binary search, since
// times do not run backwards. In each step no version up to low is later than the time, and all
// above high are. A missing number counts as the one before it.
const atSQL = `WITH RECURSIVE
	bounds(id, low, high) AS (
		SELECT id, (SELECT min(version) FROM versions WHERE key_id = keys.id) - 1, version FROM keys WHERE key = ?
	),
	search(id, low, high) AS (
		SELECT id, low, high FROM bounds
		UNION ALL
		SELECT search.id, CASE WHEN timestamp > ? THEN low ELSE (low + high + 1) / 2 END,
			CASE WHEN timestamp > ? THEN version - 1 ELSE high END
		FROM search LEFT JOIN versions ON key_id = search.id AND version = (
			SELECT max(version) FROM versions WHERE key_id = search.id AND version > low AND version <= (low + high + 1) / 2)
		WHERE low < high
	)
	SELECT ` + keyRowColumns + ", " + versionColumns + `, CASE WHEN versions.version <= search.low THEN versions.value END
	FROM bounds CROSS JOIN search JOIN keys ON keys.id = bounds.id JOIN versions ON versions.key_id = bounds.id
		AND versions.version IN (
			(SELECT max(version) FROM versions WHERE key_id = bounds.id AND version <= search.low),
			(SELECT min(version) FROM versions WHERE key_id = bounds.id AND version > search.low))
	WHERE search.low = search.high`

// At returns the version of key that was the latest at that time: the last whose
// timestamp is not later. It may be a tombstone or destroyed. Without one the error is
// kv.ErrKeyNotFound, kv.ErrVersionNotFound, or kv.ErrVersionGone if the versions of that time were
// removed. The number of its steps is the logarithm of the number of versions.
//
// The search reads rows without checking them, so a damaged one may mislead it. Its result is checked
// together with the next version: if that is later than the time, the result is right.
func (db *DB) At(ctx context.Context, key string, at kv.Timestamp) (entry kv.Entry, err error) {
	defer db.count(&err)
	tx := db.readers.WithContext(ctx)
	head, versions, err := neighbours(tx, key, at)
	switch {
	case err != nil:
		return kv.Entry{}, translateRow(tx, "search a history", err, key, 0)
	case len(versions) == 0:
		return kv.Entry{}, kv.KeyNotFound(key)
	default:
		return latestAt(key, head, versions, at)
	}
}

// neighbours returns the rows of atSQL in the order of their versions. All but their values is
// checked.
func neighbours(tx *gorm.DB, key string, at kv.Timestamp) (head Head, versions []storedVersion, err error) {
	rows, err := tx.Raw(atSQL, key, int64(at), int64(at)).Rows()
	if err != nil {
		return head, nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var k storedKey
		v := storedVersion{Entry: kv.Entry{Key: key}}
		if err := rows.Scan(append(k.fields(), v.fields()...)...); err != nil {
			return head, nil, err
		}
		if err := errors.Join(k.is(key), v.check()); err != nil {
			return head, nil, err
		}
		head, versions = k.head, append(versions, v)
	}
	slices.SortFunc(versions, func(a, b storedVersion) int { return cmp.Compare(a.Version, b.Version) })
	return head, versions, rows.Err()
}

// latestAt returns the version that was the latest at a time, from one or two neighbours in a
// history, or kv.ErrCorrupt if they contradict that.
func latestAt(key string, head Head, versions []storedVersion, at kv.Timestamp) (kv.Entry, error) {
	first := versions[0]
	if first.Time > at { // it must be the oldest
		switch {
		case len(versions) > 1 || first.Version > max(head.CompleteFrom, 1):
			return kv.Entry{}, damaged(key, first.Version-1, missingVersion)
		case first.Version > 1:
			return kv.Entry{}, kv.VersionGoneAt(key, at)
		default:
			return kv.Entry{}, kv.VersionNotYet(key, at)
		}
	}
	next := head.Version + 1
	if len(versions) > 1 {
		if next = versions[1].Version; versions[1].Time <= at {
			return kv.Entry{}, damaged(key, next, "the times of the history are not in order")
		}
	}
	if next > max(first.Version+1, head.CompleteFrom) {
		return kv.Entry{}, damaged(key, next-1, fmt.Sprintf("after version %d comes %d", first.Version, next))
	}
	return first.Entry, first.checkAll()
}

// Stats returns the counters and the size, in constant time.
func (db *DB) Stats(ctx context.Context) (stats kv.DatabaseStats, err error) {
	defer db.count(&err)
	tx := db.readers.WithContext(ctx)
	_, stats.Totals, stats.Bytes, err = readStore(tx, db.SizeSQL())
	return stats, Translate(tx, "read statistics", err)
}

// LastWrite returns the time of the last version that is not damaged, or 0 for an empty store.
func (db *DB) LastWrite(ctx context.Context) (kv.Timestamp, error) {
	tx := db.readers.WithContext(ctx)
	last, err := lastWrite(tx)
	return last, Translate(tx, "read the time of the last write", err)
}

func lastWrite(tx *gorm.DB) (kv.Timestamp, error) {
	rows, err := tx.Raw("SELECT " + describedColumns + ` FROM versions
		LEFT JOIN keys ON keys.id = versions.key_id ORDER BY versions.revision DESC LIMIT 1000`).Rows()
	if err != nil {
		return 0, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for rows.Next() {
		var v storedVersion
		if err := rows.Scan(v.entryFields()...); err == nil && v.check() == nil {
			return v.Time, nil
		}
	}
	return 0, rows.Err()
}
