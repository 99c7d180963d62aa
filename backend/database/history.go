package database

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

const (
	// historySQL finds a key and the ends of its history.
	historySQL = `SELECT keys.id, keys.version, keys.total_versions,
			(SELECT min(version) FROM versions WHERE key_id = keys.id), (SELECT revision FROM store)
		FROM keys WHERE keys.key = ?`
	// The size of a value stands in front of the row: length does not read the value.
	metaColumns = versionColumns + ", length(versions.value), NULL"
	allColumns  = versionColumns + ", length(versions.value), versions.value"
	rangeSQL    = " FROM versions WHERE key_id = ? AND version > ? AND version < ? ORDER BY version "
)

// pageSQL is the statement that reads a page of a history.
func pageSQL(values, oldest bool) string {
	columns, order := metaColumns, "DESC"
	if values {
		columns = allColumns
	}
	if oldest {
		order = "ASC"
	}
	return "SELECT " + columns + rangeSQL + order + " LIMIT ?"
}

// History returns a page of a key's history, or kv.ErrKeyNotFound, and the revision
// of the last write that it saw. It takes the same time wherever in a history
// the page lies, and reads at most one value that it does not return.
func (db *DB) History(ctx context.Context, key string, r kv.HistoryRequest) (page kv.History, revision int64, err error) {
	err = db.snapshot(ctx, func(tx *gorm.DB) error {
		page, revision, err = history(tx, key, r)
		return err
	})
	return page, revision, err
}

func history(tx *gorm.DB, key string, r kv.HistoryRequest) (page kv.History, revision int64, err error) {
	ctx := tx.Statement.Context
	var id, latest, oldest int64
	page = kv.History{Key: key}
	err = tx.Raw(historySQL, key).Row().Scan(&id, &latest, &page.TotalVersions, &oldest, &revision)
	if errors.Is(err, sql.ErrNoRows) {
		return kv.History{}, 0, kv.KeyNotFound(key)
	}
	if err != nil {
		return kv.History{}, 0, translate(ctx, "read a key", err)
	}
	before := r.Before
	if before == 0 {
		before = latest + 1
	}
	r.After = min(r.After, keepAll)
	rows, err := tx.Raw(pageSQL(r.Values, r.Oldest), id, r.After, before, r.Limit).Rows()
	if err != nil {
		return kv.History{}, 0, translate(ctx, "read a history", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	page.Versions, err = historyItems(rows, key, r.MaxBytes)
	if err != nil {
		return kv.History{}, 0, translate(ctx, "read a history", err)
	}
	if r.Oldest {
		slices.Reverse(page.Versions)
	}
	link(&page, r, oldest, latest)
	return page, revision, nil
}

// historyItems reads rows as far as they fit into maxBytes, and at least one.
func historyItems(rows *sql.Rows, key string, maxBytes int64) ([]kv.HistoryItem, error) {
	var items []kv.HistoryItem
	for rows.Next() {
		item := kv.HistoryItem{Entry: kv.Entry{Key: key}}
		if err := rows.Scan(&item.Version, &item.Revision, &item.Time, &item.Operation,
			&item.ContentType, &item.Author, &item.Expires, &item.Destroyed, &item.Bytes, &item.Value); err != nil {
			return nil, err
		}
		if maxBytes -= item.Size(); maxBytes < 0 && len(items) > 0 {
			break
		}
		items = append(items, item)
	}
	return items, rows.Err()
}

// link sets the neighbours of a page.
func link(page *kv.History, r kv.HistoryRequest, oldest, latest int64) {
	newest, bottom := latest, oldest // of the page, so far without a neighbour
	lowest := oldest                 // of what next_before may lead to
	switch n := len(page.Versions); {
	case n > 0:
		newest, bottom = page.Versions[0].Version, page.Versions[n-1].Version
		if !r.Oldest {
			lowest = max(oldest, r.After+1)
		}
	case r.Oldest: // there is nothing newer
		bottom = min(r.After, latest) + 1
	default: // nor anything older here
		newest = r.Before - 1
	}
	if lowest < bottom {
		page.NextBefore = bottom
	}
	if newest < latest {
		page.PreviousAfter = &newest
	}
}
