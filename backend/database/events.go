package database

import (
	"context"
	"database/sql"
	"errors"

	"kvstore/backend/kv"
)

const (
	// eventsWindow is how many revisions one query of Events looks at, and so bounds
	// its time, however few of them match.
	eventsWindow = 4096
	// eventsBytes ends a page of Events once it has that much of keys and values.
	eventsBytes = 1 << 20
)

// eventsSQL reads in the order of the table. The prefix is compared before the
// value, so that the overflow pages of other keys' values are not read.
const eventsSQL = "SELECT " + entryColumns + ` FROM versions JOIN keys ON keys.id = versions.key_id
	WHERE versions.revision > ? AND versions.revision <= ? AND substr(keys.key, 1, length(?)) = ?
	ORDER BY versions.revision`

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
func (db *DB) Events(ctx context.Context, prefix string, after, last int64) (Page, error) {
	page := Page{Through: min(last, after+eventsWindow)}
	readers := db.readers.WithContext(ctx)
	rows, err := readers.Raw(eventsSQL, after, page.Through, prefix, prefix).Rows()
	if err == nil {
		err = page.fill(rows)
	}
	if err == nil { // after the page: what is removed meanwhile must not go unnoticed
		err = readers.Raw("SELECT compacted FROM store").Scan(&page.Compacted).Error
	}
	if err != nil {
		return Page{}, translate(ctx, "read events", err)
	}
	return page, nil
}

// fill takes rows until the page is full, and closes them. It scans by hand, since
// GORM takes several times as long for a row.
func (p *Page) fill(rows *sql.Rows) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for bytes := int64(0); rows.Next(); {
		var e kv.Entry
		if err := rows.Scan(&e.Key, &e.Version, &e.Revision, &e.Time, &e.Operation,
			&e.ContentType, &e.Author, &e.Expires, &e.Destroyed, &e.Value); err != nil {
			return err
		}
		p.Entries = append(p.Entries, e)
		if bytes += e.Size(); bytes >= eventsBytes {
			p.Through = e.Revision
			return rows.Err()
		}
	}
	return rows.Err()
}
