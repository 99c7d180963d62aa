package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

const (
	// eventsWindow is how many revisions one query of Events looks at, and so bounds
	// its time, however few of them match.
	eventsWindow = 4096
	// eventsBytes ends a page of Events once it has that much of keys and values.
	eventsBytes = 1 << 20
)

// eventsSQL reads in the order of the table, the values of keys with the prefix only:
// the overflow pages of the others are not read.
const eventsSQL = "SELECT keys.key, " + versionColumns + `, CASE WHEN substr(keys.key, 1, length(?)) = ? THEN versions.value END
	FROM versions LEFT JOIN keys ON keys.id = versions.key_id
	WHERE versions.revision > ? AND versions.revision <= ? ORDER BY versions.revision`

// A Page is a part of the history of a store.
type Page struct {
	// Entries are in the order of their revisions, tombstones and destroyed versions
	// included.
	Entries []kv.Entry
	// Through is the revision up to which there are no others.
	Through int64
	// Compacted is the highest revision that was missing from some history when the
	// page had been read. The page may lack versions up to there, and is complete
	// when it begins after it.
	Compacted int64
}

// Events returns versions of keys that begin with prefix, those of the revisions
// behind after and up to last. A page has at most eventsWindow entries, and ends
// behind the entry that brings it to eventsBytes. Its memory is that and one value.
// It ends with last, or before; then the next begins at its Through.
//
// Every version of those revisions is checked, of whatever key, and that none is missing
// behind Compacted: else the key or the prefix of what is damaged would not be known.
// It is kv.ErrCorrupt if not all fits.
func (db *DB) Events(ctx context.Context, prefix string, after, last int64) (page Page, err error) {
	defer db.count(&err)
	page = Page{Through: min(last, after+eventsWindow)}
	err = db.snapshot(ctx, func(tx *gorm.DB) error {
		totals, err := readTotals(tx)
		if err != nil {
			return err
		}
		page.Compacted = totals.Compacted
		rows, err := tx.Raw(eventsSQL, prefix, prefix, after, page.Through).Rows()
		if err != nil {
			return err
		}
		return page.fill(rows, prefix, after)
	})
	if err != nil {
		return Page{}, translate(ctx, "read events", err)
	}
	return page, nil
}

// fill takes rows until the page is full, and closes them. It scans by hand, since
// GORM takes several times as long for a row.
func (p *Page) fill(rows *sql.Rows, prefix string, after int64) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	next := max(after, p.Compacted) + 1 // from here on every revision must come
	for bytes := int64(0); rows.Next(); {
		var v storedVersion
		if err := rows.Scan(append([]any{&v.Key}, v.fields()...)...); err != nil {
			return lostRevision(next, err.Error())
		}
		matches := strings.HasPrefix(v.Key, prefix)
		if err := v.check(); err != nil {
			return err
		}
		if v.Revision > next {
			return lostRevision(next, missingVersion)
		}
		if v.Revision == next {
			next++
		}
		if !matches {
			continue
		}
		if err := v.checkAll(); err != nil {
			return err
		}
		p.Entries = append(p.Entries, v.Entry)
		if bytes += v.Size(); bytes >= eventsBytes {
			p.Through = v.Revision
			return rows.Err()
		}
	}
	if err := rows.Err(); err != nil {
		return err
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
