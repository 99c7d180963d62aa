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
	// keysSQL takes the keys of a range from an index and the rest from the tables. The
	// index has a copy of each key: a copy that has changed is in the wrong place, and
	// may hide others when the index is searched. So each is compared with the key itself,
	// and so is the one before the range, where a search that was led astray has ended, and
	// the one behind it, which is why the range has no end here. There is a row for a range
	// without keys too, which tells of the one before it.
	keysSQL = `SELECT
			(SELECT near.key IS keys.key FROM keys AS near %[1]s LEFT JOIN keys ON keys.id = near.id
				WHERE near.key < ? %[2]s ORDER BY near.key DESC LIMIT 1) IS 0,
			listed.id IS NULL, listed.key, listed.expires_at, keys.key, ` + versionColumns + `, NULL
		FROM store LEFT JOIN keys AS listed %[1]s ON listed.key >= ? %[3]s
			LEFT JOIN keys ON keys.id = listed.id LEFT JOIN versions ON ` + sameVersion + `
		WHERE store.id = 1 ORDER BY listed.key LIMIT ?`
	// smallest is the least character that a key has.
	smallest = " "
)

// beyond is greater than every key.
var beyond = strings.Repeat("\U0010FFFF", kv.MaxKeyBytes/4+1)

// listSQL is the statement that lists keys. Each kind has an index: all keys, and
// those that are not deleted, however many of the others there are.
func listSQL(deleted bool) string {
	if deleted {
		return fmt.Sprintf(keysSQL, allKeys, "", "")
	}
	return fmt.Sprintf(keysSQL, liveKeys, "AND NOT near.deleted", "AND NOT listed.deleted AND listed.expires_at NOT BETWEEN 1 AND ?")
}

// Keys returns a page of the keys as they are at that time, in the order of their
// bytes. A folded prefix costs one search in an index, however many keys it stands
// for, or less when they are few.
//
// kv.ErrCorrupt says that a key of the page is damaged, or that a key may be missing
// from it.
func (db *DB) Keys(ctx context.Context, r kv.KeysRequest, now kv.Timestamp) (page kv.KeysPage, err error) {
	defer db.count(&err)
	l := keyList{request: r, now: now, sql: listSQL(r.Deleted)}
	err = db.snapshot(ctx, func(tx *gorm.DB) error {
		totals, err := readTotals(tx)
		if err != nil {
			return translate(ctx, "read the revision", err)
		}
		l.page.Revision = totals.Revision
		l.tx = tx
		return translate(ctx, "list keys", l.run())
	})
	return l.page, err
}

// keyList makes one page.
type keyList struct {
	tx      *gorm.DB
	request kv.KeysRequest
	now     kv.Timestamp
	sql     string

	page   kv.KeysPage
	items  int
	last   string // the last item
	before string // the last key that was read
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

// foldedRows is how many keys of a folded prefix are passed by reading them: as many as
// take the time of a new search behind it.
const foldedRows = 4

// scan adds keys from there on, until the page is full, there are no more, or the keys
// of a folded prefix are too many to read. It returns the prefix that the last item was,
// and whether there is nothing behind it before end.
func (l *keyList) scan(from, end string) (folded string, ended bool, err error) {
	args := []any{from, from}
	if !l.request.Deleted {
		args = append(args, int64(l.now))
	}
	rows, err := l.tx.Raw(l.sql, append(args, (l.request.Limit-l.items+1)*(1+foldedRows))...).Rows()
	if err != nil {
		return "", false, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for passed := 0; rows.Next(); {
		item, found, err := l.item(rows, end)
		if err != nil || !found {
			return folded, true, errors.Join(err, rows.Err())
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

// item reads a row of keysSQL, checked, or finds that there is no other key before end.
func (l *keyList) item(rows *sql.Rows, end string) (item kv.KeyItem, found bool, err error) {
	var astray, none bool
	var listed sql.NullString
	var expires sql.Null[kv.Timestamp]
	var v storedVersion
	err = rows.Scan(append([]any{&astray, &none, &listed, &expires, &v.Key}, v.fields()...)...)
	switch {
	case astray:
		return item, false, fmt.Errorf("%w (an index beside the keys from '%s')", &kv.Error{
			Kind: kv.ErrCorrupt, Detail: "An index of the keys is damaged on the disk; what it lists is not served",
		}, listed.String)
	case none: // the rest is null, and the scan has stopped there
		return item, false, nil
	case v.Key != listed.String: // it comes before what may be null of a damaged version
		return item, false, damaged(listed.String, 0, "an index has the key and the table '"+v.Key+"'")
	case v.Key <= l.before:
		return item, false, damaged(v.Key, 0, "an index has it behind '"+l.before+"'")
	case v.Key >= end && (err == nil || isScan(err)):
		return item, false, nil
	case err != nil:
		return item, false, scanned(err, v.Key, 0)
	}
	if err := v.check(); err != nil {
		return item, false, err
	}
	l.before = v.Key
	item = kv.KeyItem{Latest: v.Entry, Bytes: v.size, Deleted: v.Operation.Tombstone() || v.Expired(l.now)}
	if !l.request.Deleted && (item.Deleted || v.Expires != expires.V) {
		return item, false, damaged(v.Key, v.Version, "the index of the keys that exist says something else of it")
	}
	return item, true, nil
}

// An Expired is a key that has expired.
type Expired struct {
	Key string
	// ID is that of its row, and At when it expired: the place of the key among others.
	ID int64
	At kv.Timestamp
}

// Expired returns keys that have expired at that time and have no tombstone yet,
// those that expired first, from the one behind after on, and at most limit.
func (db *DB) Expired(ctx context.Context, now kv.Timestamp, after Expired, limit int) ([]Expired, error) {
	var found []Expired
	err := db.readers.WithContext(ctx).Raw(`SELECT id, key, expires_at AS at FROM keys
		WHERE expires_at > 0 AND expires_at <= ? AND expires_at >= ? AND (expires_at > ? OR id > ?)
		ORDER BY expires_at, id LIMIT ?`, int64(now), int64(after.At), int64(after.At), after.ID, limit).Scan(&found).Error
	return found, translate(ctx, "find expired keys", err)
}
