package database

import (
	"database/sql"
	"errors"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

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
