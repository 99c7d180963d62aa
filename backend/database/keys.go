package database

import (
	"context"
	"strings"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

const (
	keysSQL = `SELECT keys.key, keys.deleted OR (keys.expires_at > 0 AND keys.expires_at <= ?),
			` + versionColumns + `, length(versions.value)
		FROM %s LEFT JOIN versions ON versions.revision = keys.revision WHERE keys.key >= ? AND keys.key < ?`
	liveSQL = ` AND NOT keys.deleted AND (keys.expires_at = 0 OR keys.expires_at > ?)`
	// smallest is the least character that a key has.
	smallest = " "
)

// beyond is greater than every key.
var beyond = strings.Repeat("\U0010FFFF", kv.MaxKeyBytes/4+1)

// listSQL is the statement that lists keys. Each kind has an index: all keys, and
// those that are not deleted, however many of the others there are.
func listSQL(deleted bool) string {
	from, where := allKeys, ""
	if !deleted {
		from, where = liveKeys, liveSQL
	}
	return strings.Replace(keysSQL, "%s", from, 1) + where + " ORDER BY keys.key LIMIT ?"
}

// Keys returns a page of the keys as they are at that time, in the order of their
// bytes. A folded prefix costs one search in an index, however many keys it stands
// for.
func (db *DB) Keys(ctx context.Context, r kv.KeysRequest, now kv.Timestamp) (kv.KeysPage, error) {
	l := keyList{request: r, now: int64(now), sql: listSQL(r.Deleted)}
	err := db.snapshot(ctx, func(tx *gorm.DB) error {
		err := tx.Raw("SELECT revision FROM store").Row().Scan(&l.page.Revision)
		if err != nil {
			return translate(ctx, "read the revision", err)
		}
		l.tx = tx
		return translate(ctx, "list keys", l.run())
	})
	return l.page, err
}

// keyList makes one page.
type keyList struct {
	tx      *gorm.DB
	request kv.KeysRequest
	now     int64
	sql     string

	page  kv.KeysPage
	items int
	last  string // the last item
}

func (l *keyList) run() error {
	from, more := l.start()
	for _, prefix := range l.request.Ranges() {
		end, bounded := kv.PrefixEnd(prefix)
		if !bounded {
			end = beyond
		}
		from = max(from, prefix) // a prefix that was folded may reach into the next range
		for more && from < end && l.page.NextAfter == "" {
			folded, err := l.scan(from, end)
			if err != nil {
				return err
			}
			if folded == "" {
				break
			}
			from, more = kv.PrefixEnd(folded)
		}
	}
	return nil
}

// start returns the least key of the page, and whether there can be one.
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

// scan adds keys from there on, until the page is full, there are no more, or a
// prefix was folded, which it returns.
func (l *keyList) scan(from, end string) (folded string, err error) {
	args := []any{l.now, from, end}
	if !l.request.Deleted {
		args = append(args, l.now)
	}
	args = append(args, l.request.Limit-l.items+1)
	rows, err := l.tx.Raw(l.sql, args...).Rows()
	if err != nil {
		return "", err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for rows.Next() {
		var item kv.KeyItem
		e := &item.Latest
		if err := rows.Scan(&e.Key, &item.Deleted, &e.Version, &e.Revision, &e.Time, &e.Operation,
			&e.ContentType, &e.Author, &e.Expires, &e.Destroyed, &item.Bytes); err != nil {
			return "", err
		}
		if l.items == l.request.Limit {
			l.page.NextAfter = l.last
			return "", nil
		}
		l.items++
		if folded, ok := l.request.Fold(e.Key); ok {
			l.last = folded
			l.page.Prefixes = append(l.page.Prefixes, folded)
			return folded, nil
		}
		l.last = e.Key
		l.page.Keys = append(l.page.Keys, item)
	}
	return "", rows.Err()
}
