package database

import (
	"context"
	"database/sql"
	"strings"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// keysSQL lists all keys, liveKeysSQL those that are neither deleted nor expired. That has an index
// of its own, so it takes no longer among many deleted keys.
const (
	keysSQL = "SELECT " + describedColumns + " FROM keys LEFT JOIN versions ON " + sameVersion + `
		WHERE keys.key >= ? AND keys.key < ?`
	keysOrder   = " ORDER BY keys.key LIMIT ?"
	liveKeysSQL = keysSQL + " AND NOT keys.deleted AND keys.expires_at NOT BETWEEN 1 AND ?"
	// smallest is the smallest character of a key.
	smallest = " "
)

// beyond is greater than every key.
var beyond = strings.Repeat("\U0010FFFF", kv.MaxKeyBytes/4+1)

// rangeOf returns the first key that may have a prefix, and the least text behind all such keys.
func rangeOf(prefix string) (from, end string) {
	end, bounded := kv.PrefixEnd(prefix)
	if !bounded {
		end = beyond
	}
	return prefix, end
}

// Keys returns a page of the keys as they are at that time, in the order of their bytes. A folded
// prefix costs at most one search in an index, however many keys it stands for.
func (db *DB) Keys(ctx context.Context, r kv.KeysRequest, now kv.Timestamp) (page kv.KeysPage, err error) {
	defer db.count(&err)
	l := keyList{request: r, now: now}
	err = db.snapshot(ctx, func(tx *gorm.DB) error {
		totals, err := readTotals(tx)
		if err == nil {
			l.tx, l.page.Revision = tx, totals.Revision
			err = l.run()
		}
		return Translate(tx, "list keys", err)
	})
	return l.page, err
}

// keyList makes one page.
type keyList struct {
	tx      *gorm.DB
	request kv.KeysRequest
	now     kv.Timestamp

	page   kv.KeysPage
	items  int
	last   string // the last item
	before string // the last key that was read
}

func (l *keyList) run() error {
	from, more := l.start()
	for _, prefix := range l.request.Ranges() {
		_, end := rangeOf(prefix)
		from = max(from, prefix) // a prefix that was folded may reach into the next range
		for more && from < end && l.page.NextAfter == "" {
			folded, ended, err := l.scan(from, end)
			if err != nil {
				return err
			}
			if folded != "" {
				from, more = kv.PrefixEnd(folded)
			}
			if ended {
				break
			}
		}
	}
	return nil
}

// start returns the lower bound of the page, and whether there can be a key after it.
func (l *keyList) start() (from string, ok bool) {
	r := l.request
	if folded, ok := r.Fold(r.After); ok && folded == r.After {
		return kv.PrefixEnd(folded)
	}
	if r.After == "" {
		return r.Prefix, true
	}
	return max(r.Prefix, r.After+smallest), true
}

// foldedRows is the number of keys of a folded prefix that are skipped by reading them, which takes
// the time of a search for the next.
const foldedRows = 4

// scan adds keys until the page is full, there are no more, or a folded prefix has too many to
// read. It returns the last item if that was a prefix, and whether there is nothing after it.
func (l *keyList) scan(from, end string) (folded string, ended bool, err error) {
	sql, args := keysSQL, []any{from, end}
	if !l.request.Deleted {
		sql, args = liveKeysSQL, append(args, int64(l.now))
	}
	rows, err := l.tx.Raw(sql+keysOrder, append(args, (l.request.Limit-l.items+1)*(1+foldedRows))...).Rows()
	if err != nil {
		return "", false, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for passed := 0; rows.Next(); {
		item, err := l.item(rows)
		if err != nil {
			return "", true, err
		}
		prefix, folds := l.request.Fold(item.Latest.Key)
		if folds && prefix == folded {
			if passed++; passed > foldedRows {
				return folded, false, nil
			}
			continue
		}
		if l.items == l.request.Limit {
			l.page.NextAfter = l.last
			return "", true, nil
		}
		l.items++
		if passed, folded = 0, prefix; folds {
			l.last = prefix
			l.page.Prefixes = append(l.page.Prefixes, prefix)
			continue
		}
		l.last = item.Latest.Key
		l.page.Keys = append(l.page.Keys, item)
	}
	return folded, true, rows.Err()
}

// item reads a row of keysSQL.
func (l *keyList) item(rows *sql.Rows) (kv.KeyItem, error) {
	var v storedVersion
	if err := rows.Scan(v.entryFields()...); err != nil {
		return kv.KeyItem{}, translateRow(l.tx, "list keys", err, v.Key, 0)
	}
	if err := v.check(); err != nil {
		return kv.KeyItem{}, err
	}
	if v.Key <= l.before { // else a damaged index could make a list endless
		return kv.KeyItem{}, damaged(v.Key, 0, "an index has it behind '"+l.before+"'")
	}
	l.before = v.Key
	return kv.KeyItem{Latest: v.Entry, Bytes: v.size, Deleted: v.Operation.Tombstone() || v.Expired(l.now)}, nil
}

// An Expired is a key that has expired and has no tombstone yet.
type Expired struct {
	Key string
	// At is when it expired, and ID is that of its row. They order the keys.
	ID int64
	At kv.Timestamp
}

// Expired returns up to limit keys that have expired at that time, the earliest after after
// first.
func (db *DB) Expired(ctx context.Context, now kv.Timestamp, after Expired, limit int) ([]Expired, error) {
	var found []Expired
	tx := db.readers.WithContext(ctx)
	err := tx.Raw(`SELECT id, key, expires_at AS at FROM keys
		WHERE expires_at > 0 AND expires_at <= ? AND expires_at >= ? AND (expires_at > ? OR id > ?)
		ORDER BY expires_at, id LIMIT ?`, int64(now), int64(after.At), int64(after.At), after.ID, limit).Scan(&found).Error
	return found, Translate(tx, "find expired keys", err)
}
