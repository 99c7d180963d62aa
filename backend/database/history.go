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
	// historySQL finds a key and its oldest version, and the counters of the store.
	historySQL = "SELECT " + keyRowColumns + ", " + storeColumns + `, (SELECT min(version) FROM versions WHERE key_id = keys.id)
		FROM keys CROSS JOIN store WHERE keys.key = ?`
	rangeSQL = " FROM versions WHERE key_id = ? AND version > ? AND version < ? ORDER BY version "
)

// pageSQL reads a page of a history.
func pageSQL(values, oldest bool) string {
	columns, order := versionColumns+", NULL", "DESC"
	if values {
		columns = versionColumns + ", versions.value"
	}
	if oldest {
		order = "ASC"
	}
	return "SELECT " + columns + rangeSQL + order + " LIMIT ?"
}

// History returns a page of a key's history, or kv.ErrKeyNotFound, and the revision of the store
// at that moment. It takes the same time anywhere in a history, and reads at most one value that
// it does not return.
func (db *DB) History(ctx context.Context, key string, r kv.HistoryRequest) (page kv.History, revision int64, err error) {
	defer db.count(&err)
	err = db.snapshot(ctx, func(tx *gorm.DB) error {
		page, revision, err = history(tx, key, r)
		return translateRow(tx, "read a history", err, key, 0)
	})
	return page, revision, err
}

func history(tx *gorm.DB, key string, r kv.HistoryRequest) (page kv.History, revision int64, err error) {
	head, revision, oldest, err := findHistory(tx, key)
	if err != nil {
		return kv.History{}, 0, err
	}
	page = kv.History{Key: key, TotalVersions: head.TotalVersions}
	before := r.Before
	if before == 0 {
		before = head.Version + 1
	}
	r.After = min(r.After, keepAll)
	rows, err := tx.Raw(pageSQL(r.Values, r.Oldest), head.ID, r.After, before, r.Limit).Rows()
	if err != nil {
		return kv.History{}, 0, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	if page.Versions, err = historyItems(rows, key, r); err != nil {
		return kv.History{}, 0, err
	}
	if r.Oldest {
		slices.Reverse(page.Versions)
	}
	link(&page, r, oldest, head.Version)
	return page, revision, nil
}

// findHistory returns the head of a key, the revision of the store, and the oldest
// version of the key, or kv.ErrKeyNotFound.
func findHistory(tx *gorm.DB, key string) (head Head, revision, oldest int64, err error) {
	var k storedKey
	var s storedTotals
	err = tx.Raw(historySQL, key).Row().Scan(append(append(k.fields(), s.fields()...), &oldest)...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		err = kv.KeyNotFound(key)
	case err == nil:
		err = errors.Join(k.is(key), s.check())
	}
	return k.head, s.Revision, oldest, err
}

// historyItems reads rows until r.MaxBytes, and at least one.
func historyItems(rows *sql.Rows, key string, r kv.HistoryRequest) ([]kv.HistoryItem, error) {
	var items []kv.HistoryItem
	left := r.MaxBytes
	for rows.Next() {
		v := storedVersion{Entry: kv.Entry{Key: key}}
		err := rows.Scan(v.fields()...)
		if err == nil && r.Values {
			err = v.checkAll()
		} else if err == nil {
			err = v.check()
		}
		if err != nil {
			return nil, err
		}
		item := kv.HistoryItem{Entry: v.Entry, Bytes: v.size}
		if left -= item.Size(); left < 0 && len(items) > 0 {
			return items, rows.Err()
		}
		items = append(items, item)
	}
	return items, rows.Err()
}

// link sets the neighbours of a page.
func link(page *kv.History, r kv.HistoryRequest, oldest, latest int64) {
	newest, bottom := latest, oldest // of the page
	lowest := oldest                 // of the pages that next_before leads to
	switch n := len(page.Versions); {
	case n > 0:
		newest, bottom = page.Versions[0].Version, page.Versions[n-1].Version
		if !r.Oldest {
			lowest = max(oldest, r.After+1)
		}
	case r.Oldest: // there is nothing newer
		bottom = min(r.After, latest) + 1
	default: // there is nothing older
		newest = r.Before - 1
	}
	if lowest < bottom {
		page.NextBefore = bottom
	}
	if newest < latest {
		page.PreviousAfter = &newest
	}
}
