package database

import (
	"fmt"
	"strings"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// namedDamage is how many damaged rows are named at most.
const namedDamage = 20

// rowDamage collects what is damaged in a file.
type rowDamage struct {
	all   int64
	named []string
}

func (d *rowDamage) add(err error) {
	if d.all++; len(d.named) < namedDamage {
		d.named = append(d.named, err.Error())
	}
}

// err returns nil when nothing is damaged, else an error that names it.
func (d *rowDamage) err() error {
	if d.all == 0 {
		return nil
	}
	more := ""
	if n := d.all - int64(len(d.named)); n > 0 {
		more = fmt.Sprintf("\nand %d more", n)
	}
	return fmt.Errorf("the database is damaged; rows that are not what was written: %d\n%s%s", d.all, strings.Join(d.named, "\n"), more)
}

// checkRows compares every row of a file with its checksum, and
// what the rows say of one another. An error is that of a file which cannot be read.
func checkRows(db *gorm.DB) (*rowDamage, error) {
	found := &rowDamage{}
	if _, err := readTotals(db); isCorrupt(err) {
		found.add(err)
	} else if err != nil {
		return nil, err
	}
	for _, check := range []func(*gorm.DB, *rowDamage) error{checkKeys, checkVersions, checkErased} {
		if err := check(db, found); err != nil {
			return nil, unsound(err)
		}
	}
	return found, nil
}

func checkVersions(db *gorm.DB, found *rowDamage) error {
	rows, err := db.Raw("SELECT keys.key, " + versionColumns + `, versions.value
		FROM versions LEFT JOIN keys ON keys.id = versions.key_id ORDER BY versions.revision`).Rows()
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	last := int64(0)
	for rows.Next() {
		var v storedVersion
		err := rows.Scan(append([]any{&v.Key}, v.fields()...)...)
		if err == nil {
			err = v.checkAll()
		} else {
			err = lostRevision(last+1, err.Error())
		}
		if err != nil {
			found.add(err)
		}
		last = max(v.Revision, last+1)
	}
	return rows.Err()
}

// checkKeys checks that each key has the versions that it must have, too.
func checkKeys(db *gorm.DB, found *rowDamage) error {
	rows, err := db.Raw("SELECT " + keyRowColumns + `,
			(SELECT count(*) FROM versions WHERE key_id = keys.id AND version >= complete_from) FROM keys ORDER BY id`).Rows()
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for rows.Next() {
		var k storedKey
		var versions int64
		err := rows.Scan(append(k.fields(), &versions)...)
		if err == nil {
			err = k.check()
		} else {
			err = damaged(k.key, 0, err.Error())
		}
		if must := k.head.Version - max(k.head.CompleteFrom, 1) + 1; err == nil && versions != must {
			err = damaged(k.key, 0, fmt.Sprintf("it has %d versions from %d on and must have %d", versions, max(k.head.CompleteFrom, 1), must))
		}
		if err != nil {
			found.add(err)
		}
	}
	return rows.Err()
}

func checkErased(db *gorm.DB, found *rowDamage) error {
	rows, err := db.Raw("SELECT digest, version, checksum FROM erased").Rows()
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for rows.Next() {
		var digest []byte
		var version, checksum int64
		err := rows.Scan(&digest, &version, &checksum)
		if err == nil && erasedChecksum(digest, version) != checksum {
			err = fmt.Errorf("%w: how far an erased key had counted", kv.ErrCorrupt)
		}
		if err != nil {
			found.add(err)
		}
	}
	return rows.Err()
}
