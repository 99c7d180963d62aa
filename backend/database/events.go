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
	// eventsWindow is how many versions one query of Events looks at, and so bounds
	// its time, however few of them match.
	eventsWindow = 4096
	// eventsBytes ends a page of Events once it has that much of keys and values.
	eventsBytes = 1 << 20
)

// eventsSQL reads in the order of the table. The values are those of keys with the prefix
// only, or of none: the overflow pages of the others are not read.
func eventsSQL(values bool) string {
	value := "NULL"
	if values {
		value = "CASE WHEN substr(keys.key, 1, length(?)) = ? THEN versions.value END"
	}
	return "SELECT keys.key, " + versionColumns + ", " + value + ` FROM versions LEFT JOIN keys ON keys.id = versions.key_id
		WHERE versions.revision > ? AND versions.revision <= ? ORDER BY versions.revision LIMIT ?`
}

// An EventsRequest says which part of the history of a store is wanted.
type EventsRequest struct {
	// Keys are those whose versions are wanted.
	Keys kv.Prefixes
	// After and Last bound the revisions: those behind After and up to Last.
	After, Last int64
	// Known: that revisions up to this one may be missing need not be told.
	Known int64
	// Values: the entries have their values.
	Values bool
}

// A Page is a part of the history of a store.
type Page struct {
	// Entries are in the order of their revisions, tombstones and destroyed versions
	// included.
	Entries []*kv.Entry
	// Through is the revision up to which there are no others.
	Through int64
	// Gone, when not 0, is the highest revision that may be missing from the history of these
	// keys: retention has removed it, and it is not behind Last, or it was that of a key
	// whose name is forgotten. It is higher than After and Known.
	Gone int64
}

// Events returns a page of what the history has of some keys. A page looks at no more than
// eventsWindow versions, and ends behind the entry that brings it to eventsBytes. Its
// memory is that and one value. It ends with r.Last, or before; then the next begins at its
// Through.
//
// Every version of those revisions is checked, of whatever key, and that none is missing
// behind the last that was removed: else the key or the prefix of what is damaged would
// not be known. It is kv.ErrCorrupt if not all fits.
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
		common := r.Keys.Common()
		args = append([]any{common, common}, args...)
	}
	rows, err := tx.Raw(eventsSQL(r.Values), args...).Rows()
	if err != nil {
		return err
	}
	return p.fill(rows, r, totals.Compacted)
}

// fill takes rows until the page is full, and closes them. It scans by hand, since
// GORM takes several times as long for a row.
func (p *Page) fill(rows *sql.Rows, r EventsRequest, compacted int64) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	next := max(r.After, compacted) + 1 // from here on every revision must come
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

// lostRevision says that the version of a revision is damaged; which that is, is not
// known.
func lostRevision(revision int64, cause string) error {
	return fmt.Errorf("%w (%s)", &kv.Error{
		Kind: kv.ErrCorrupt, Detail: fmt.Sprintf("The version of revision %d is damaged on the disk; it is not served", revision),
	}, cause)
}

// goneKeys is how many keys one search of gone looks at, and so bounds its time.
const goneKeys = 8192

const (
	// goneBoundSQL finds where the first goneKeys of the keys end that lack a revision
	// behind another one, those that lack the highest first.
	goneBoundSQL = `SELECT pruned FROM keys WHERE pruned > 0 AND pruned > ?
		ORDER BY pruned DESC LIMIT 1 OFFSET ?`
	// goneSQL finds keys of a prefix that lack a revision behind another one.
	goneSQL = "SELECT " + keyRowColumns + ` FROM keys
		WHERE pruned > 0 AND pruned > ? AND substr(key, 1, length(?)) = ? ORDER BY pruned DESC`
	// withPrefixSQL finds keys of a prefix.
	withPrefixSQL = "SELECT " + keyRowColumns + " FROM keys WHERE key >= ? AND key <= ? ORDER BY key LIMIT ?"
)

// gone returns Page.Gone. It is exact for a set of up to goneKeys keys, and while no more
// keys than that lack anything behind r.After; else it may tell of a key outside of the set.
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

// highestPruned returns the highest revision behind another one that retention has removed
// from these keys, 0 when it has removed none.
func highestPruned(tx *gorm.DB, keys kv.Prefixes, after int64) (highest int64, err error) {
	var bound int64
	err = tx.Raw(goneBoundSQL, after, goneKeys-1).Row().Scan(&bound)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, err
	}
	common := keys.Common()
	highest, _, err = prunedOf(tx, keys, 1, goneSQL, max(after, bound-1), common, common)
	if err != nil || highest > 0 || bound == 0 {
		return highest, err
	}
	highest, looked, err := prunedOf(tx, keys, goneKeys, withPrefixSQL, common, common+beyond, goneKeys)
	if looked == goneKeys {
		highest = bound
	}
	return highest, err
}

// prunedOf returns the highest revision that the keys which a query finds lack, as far as
// they are in the set, and how many it has looked at. It ends with the key of that number
// in the set.
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
