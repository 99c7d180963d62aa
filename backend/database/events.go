package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

const (
	// eventsWindow is the number of versions that one query of Events reads, which bounds its time
	// however few of them match.
	eventsWindow = 4096
	// eventsBytes is the size of keys and values at which a page ends.
	eventsBytes = 1 << 20
)

// eventsSQL reads versions in the order of their table. It has the values of keys with a prefix, or
// none, and so does not read the overflow pages of others.
func eventsSQL(values bool) string {
	value := "NULL"
	if values {
		value = "CASE WHEN keys.key >= ? AND keys.key < ? THEN versions.value END"
	}
	return "SELECT keys.key, " + versionColumns + ", " + value + ` FROM versions LEFT JOIN keys ON keys.id = versions.key_id
		WHERE versions.revision > ? AND versions.revision <= ? ORDER BY versions.revision LIMIT ?`
}

// An EventsRequest selects a part of the history of the store.
type EventsRequest struct {
	// Keys are those whose versions are returned.
	Keys kv.Prefixes
	// After and Last bound the revisions: after After, up to Last.
	After, Last int64
	// Known is the revision up to which the caller knows that some may be missing.
	Known int64
	// Values adds the values.
	Values bool
}

// A Page is a part of the history of the store.
type Page struct {
	// Entries are in the order of their revisions, with tombstones and destroyed versions.
	Entries []*kv.Entry
	// Through is the revision up to which there are no more.
	Through int64
	// Gone, unless 0, is the highest revision that may be missing for these keys: retention has
	// removed it, up to Last, or it was of a key whose name is forgotten. It is higher than
	// After and Known.
	Gone int64
}

// Events returns a page of the history of some keys. It reads up to eventsWindow versions, and
// ends with the entry that brings it to eventsBytes. The next page begins after Through.
//
// It checks all versions that it reads, of whatever key, and that none is missing after the last
// that was removed: else it could not know whether a damaged one is of these keys. If something
// does not fit the error is kv.ErrCorrupt.
func (db *DB) Events(ctx context.Context, r EventsRequest) (page Page, err error) {
	defer db.count(&err)
	err = db.snapshot(ctx, func(tx *gorm.DB) error { return Translate(tx, "read events", page.read(tx, r)) })
	if err != nil {
		return Page{}, err
	}
	return page, nil
}

func (p *Page) read(tx *gorm.DB, r EventsRequest) error {
	totals, err := readTotals(tx)
	if err != nil {
		return err
	}
	if p.Gone, err = gone(tx, totals, r); err != nil {
		return err
	}
	args := []any{r.After, r.Last, eventsWindow}
	if r.Values {
		from, end := rangeOf(r.Keys.Common())
		args = append([]any{from, end}, args...)
	}
	rows, err := tx.Raw(eventsSQL(r.Values), args...).Rows()
	if err != nil {
		return err
	}
	return p.fill(rows, r, totals.Compacted)
}

// fill reads rows until the page is full, and closes them.
func (p *Page) fill(rows *sql.Rows, r EventsRequest, compacted int64) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	next := max(r.After, compacted) + 1 // the next revision that must not be missing
	looked, bytes := 0, int64(0)
	for ; rows.Next(); looked++ {
		var v storedVersion
		if err := rows.Scan(v.entryFields()...); err != nil {
			return lostRevision(next, err.Error())
		}
		if err := v.check(); err != nil {
			return err
		}
		if v.Revision > next {
			return lostRevision(next, missingVersion)
		}
		if v.Revision == next {
			next++
		}
		p.Through = v.Revision
		if !r.Keys.Has(v.Key) {
			continue
		}
		if r.Values {
			if err := v.checkAll(); err != nil {
				return err
			}
		}
		p.Entries = append(p.Entries, &v.Entry)
		if bytes += v.Size(); bytes >= eventsBytes {
			return rows.Err()
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if looked < eventsWindow { // there are no more
		p.Through = r.Last
	}
	if next <= p.Through {
		return lostRevision(next, missingVersion)
	}
	return nil
}

// lostRevision is the error for a damaged version whose key is not known.
func lostRevision(revision int64, cause string) error {
	return fmt.Errorf("%w (%s)", &kv.Error{
		Kind: kv.ErrCorrupt, Detail: fmt.Sprintf("The version of revision %d is damaged on the disk; it is not served", revision),
	}, cause)
}

// goneKeys is the number of keys that one search of gone reads, which bounds its time.
const goneKeys = 8192

const (
	// goneBoundSQL finds the last of the goneKeys keys that lack the highest revisions.
	goneBoundSQL = `SELECT pruned FROM keys WHERE pruned > 0 AND pruned > ?
		ORDER BY pruned DESC LIMIT 1 OFFSET ?`
	// goneSQL finds keys with a prefix that lack revisions after one. With IS TRUE it does not use the
	// index of all keys.
	goneSQL = "SELECT " + keyRowColumns + ` FROM keys
		WHERE pruned > 0 AND pruned > ? AND (key >= ? AND key < ?) IS TRUE ORDER BY pruned DESC`
	// withPrefixSQL finds keys with a prefix.
	withPrefixSQL = "SELECT " + keyRowColumns + " FROM keys WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
)

// gone returns Page.Gone. It is exact if the set has up to goneKeys keys, or if no more than
// that lack anything after r.After; else it may be that of a key outside of the set.
func gone(tx *gorm.DB, totals kv.Totals, r EventsRequest) (int64, error) {
	found := max(r.After, r.Known)
	floor := found
	if found = max(found, totals.Forgotten); min(totals.Compacted, r.Last) > found {
		pruned, err := highestPruned(tx, r.Keys, found)
		if err != nil {
			return 0, err
		}
		found = max(found, min(pruned, r.Last))
	}
	if found == floor {
		return 0, nil
	}
	return found, nil
}

// highestPruned returns the highest revision after one that retention has removed from these keys, or
// 0.
func highestPruned(tx *gorm.DB, keys kv.Prefixes, after int64) (highest int64, err error) {
	var bound int64
	err = tx.Raw(goneBoundSQL, after, goneKeys-1).Row().Scan(&bound)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, err
	}
	from, end := rangeOf(keys.Common())
	highest, _, err = prunedOf(tx, keys, 1, goneSQL, max(after, bound-1), from, end)
	if err != nil || highest > 0 || bound == 0 {
		return highest, err
	}
	highest, looked, err := prunedOf(tx, keys, goneKeys, withPrefixSQL, from, end, goneKeys)
	if looked == goneKeys {
		highest = bound
	}
	return highest, err
}

// prunedOf returns the highest revision that retention has removed from the keys that a query
// finds, the first most of those in the set, and how many keys it has read.
func prunedOf(tx *gorm.DB, keys kv.Prefixes, most int, query string, args ...any) (highest int64, looked int, err error) {
	rows, err := tx.Raw(query, args...).Rows()
	if err != nil {
		return 0, 0, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for found := 0; found < most && rows.Next(); looked++ {
		var k storedKey
		if err := rows.Scan(k.fields()...); err != nil {
			return 0, 0, err
		}
		if err := k.check(); err != nil {
			return 0, 0, err
		}
		if keys.Has(k.key) {
			found++
			highest = max(highest, k.head.Pruned)
		}
	}
	return highest, looked, rows.Err()
}
