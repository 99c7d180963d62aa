package database

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// What an earlier version wrote has no checksums. They stand in front of the value, as
// the size does, so the table of the versions is made anew. It may be large: so its rows
// are moved some thousand at a time, each time in a transaction of its own, and what was
// moved leaves the old table. A start that is interrupted is continued by the next one.
// The step that makes the new table is recorded before the first row moves, so an earlier
// version of the program refuses the file from then on.
//
// A row gets the checksum of what it is now: what was damaged before cannot be told.

// addChecksums makes the new table, and the columns of the others. It has its own copies
// of the models, as the other steps have.
func addChecksums(tx *gorm.DB) error {
	type key struct {
		ID int64 `gorm:"primaryKey;autoIncrement:false"`
	}
	type version struct {
		Revision    int64  `gorm:"primaryKey;autoIncrement:false"`
		KeyID       int64  `gorm:"not null"`
		Version     int64  `gorm:"not null"`
		Timestamp   int64  `gorm:"not null"`
		Operation   string `gorm:"type:text;not null"`
		ContentType string `gorm:"type:text;not null"`
		Author      string `gorm:"type:text;not null"`
		ExpiresAt   int64  `gorm:"not null"`
		Destroyed   bool   `gorm:"not null"`
		Checksums   int64  `gorm:"not null"`
		Value       []byte `gorm:"type:blob;not null"`
		Key         key    `gorm:"foreignKey:KeyID;references:ID"`
	}
	if err := execAll(tx, // without quotes GORM takes checksum for a CHECK
		"ALTER TABLE store ADD COLUMN `checksum` integer NOT NULL DEFAULT 0",
		"ALTER TABLE keys ADD COLUMN complete_from integer NOT NULL DEFAULT 0",
		"ALTER TABLE keys ADD COLUMN `checksum` integer NOT NULL DEFAULT 0",
		"ALTER TABLE erased ADD COLUMN `checksum` integer NOT NULL DEFAULT 0",
		"CREATE INDEX keys_deleted ON keys(key) WHERE deleted",
		completeFromSQL,
		"DROP INDEX versions_key_version",
		"ALTER TABLE versions RENAME TO versions_before",
	); err != nil {
		return err
	}
	if err := tx.Migrator().CreateTable(&version{}); err != nil {
		return fmt.Errorf("create table versions: %w", err)
	}
	return nil
}

// completeFromSQL sets from where on the history of each key has no gap: behind the
// highest version that is missing, and from its oldest when there is none between.
const completeFromSQL = `UPDATE keys SET complete_from = (
	SELECT coalesce(max(version), (SELECT min(version) FROM versions WHERE key_id = keys.id))
	FROM versions AS v WHERE key_id = keys.id AND version > (SELECT min(version) FROM versions WHERE key_id = keys.id)
		AND NOT EXISTS (SELECT 1 FROM versions WHERE key_id = v.key_id AND version = v.version - 1))`

const (
	// A transaction moves at most that many rows, and stops behind the one with which
	// their values have that many bytes.
	moveRows  = 4096
	moveBytes = 8 << 20
	// moveReport is the time between two lines of progress.
	moveReport = 5 * time.Second
)

// moveVersions gives all versions checksums, in the order of their revisions.
func moveVersions(db *gorm.DB, logger *slog.Logger) error {
	var all int64
	if err := db.Raw("SELECT count(*) FROM versions_before").Row().Scan(&all); err != nil {
		return fmt.Errorf("count the versions: %w", err)
	}
	if all > 0 {
		logger.Info("the versions get checksums, once; an interrupted start is continued by the next", "versions", all)
	}
	told := time.Now()
	for moved := int64(0); ; {
		n, err := moveSome(db)
		if err != nil {
			return fmt.Errorf("give the versions checksums, after %d of %d: %w", moved, all, err)
		}
		if n == 0 {
			return nil
		}
		if moved += n; time.Since(told) > moveReport {
			told = time.Now()
			logger.Info("the versions get checksums", "done", moved, "versions", all)
		}
	}
}

// moveSome moves the next rows and returns how many.
func moveSome(db *gorm.DB) (moved int64, err error) {
	err = db.Transaction(func(tx *gorm.DB) error {
		rows, last, err := rowsBefore(tx)
		if err != nil || len(rows) == 0 {
			return err
		}
		moved = int64(len(rows))
		if err := appendVersions.exec(tx, rows); err != nil {
			return err
		}
		return tx.Exec("DELETE FROM versions_before WHERE revision <= ?", last).Error
	})
	return moved, err
}

// rowsBefore returns rows for appendVersions, and the last of their revisions.
func rowsBefore(tx *gorm.DB) (made [][]any, last int64, err error) {
	rows, err := tx.Raw(`SELECT keys.key, old.key_id, old.version, old.revision, old.timestamp, old.operation,
			old.content_type, old.author, old.expires_at, old.destroyed, old.value
		FROM versions_before AS old LEFT JOIN keys ON keys.id = old.key_id ORDER BY old.revision LIMIT ?`, moveRows).Rows()
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for bytes := int64(0); rows.Next() && bytes < moveBytes; {
		var e kv.Entry
		var keyID int64
		if err := rows.Scan(&e.Key, &keyID, &e.Version, &e.Revision, &e.Time, &e.Operation,
			&e.ContentType, &e.Author, &e.Expires, &e.Destroyed, &e.Value); err != nil {
			return nil, 0, err
		}
		bytes += int64(len(e.Value))
		made, last = append(made, versionOf(&e, keyID)), e.Revision
	}
	return made, last, rows.Err()
}

// endChecksums is for when all rows were moved. The index is made at the end: to sort its
// entries takes less time than to put each in its place.
func endChecksums(tx *gorm.DB) error {
	var left int64
	if err := tx.Raw("SELECT count(*) FROM versions_before").Row().Scan(&left); err != nil {
		return err
	}
	if left > 0 {
		return fmt.Errorf("the database file is damaged: %d versions belong to no key", left)
	}
	if err := execAll(tx, "DROP TABLE versions_before",
		"CREATE UNIQUE INDEX versions_key_version ON versions(key_id, version)"); err != nil {
		return err
	}
	return errors.Join(sealKeys(tx), sealErased(tx))
}

// sealKeys gives the rows of all keys checksums.
func sealKeys(tx *gorm.DB) error {
	for after := int64(0); ; {
		sealed, err := keysBehind(tx, after)
		if err != nil || len(sealed) == 0 {
			return err
		}
		for _, k := range sealed {
			after = k.head.ID
			if err := tx.Exec("UPDATE keys SET checksum = ? WHERE id = ?", keyChecksum(k.key, k.head), k.head.ID).Error; err != nil {
				return err
			}
		}
	}
}

func keysBehind(tx *gorm.DB, after int64) (found []storedKey, err error) {
	columns := strings.Replace(keyRowColumns, "keys.pruned", "0", 1) // comes with a later step
	rows, err := tx.Raw("SELECT "+columns+" FROM keys WHERE id > ? ORDER BY id LIMIT ?", after, moveRows).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for rows.Next() {
		var k storedKey
		if err := rows.Scan(k.fields()...); err != nil {
			return nil, err
		}
		found = append(found, k)
	}
	return found, rows.Err()
}

func sealErased(tx *gorm.DB) error {
	var rows []struct {
		Digest  []byte
		Version int64
	}
	if err := tx.Raw("SELECT digest, version FROM erased").Scan(&rows).Error; err != nil {
		return err
	}
	for _, row := range rows {
		err := tx.Exec("UPDATE erased SET checksum = ? WHERE digest = ?", erasedChecksum(row.Digest, row.Version), row.Digest).Error
		if err != nil {
			return err
		}
	}
	return nil
}

func sealStore(tx *gorm.DB) error {
	var s identity
	var t kv.Totals
	err := tx.Raw("SELECT uuid, created_at, revision, total_keys, total_versions, compacted, forgotten FROM store").Row().
		Scan(&s.storeID, &s.created, &t.Revision, &t.Keys, &t.Versions, &t.Compacted, &t.Forgotten)
	if err != nil {
		return fmt.Errorf("the row of the store: %w", err)
	}
	return s.save(tx, t)
}

// isPending reports whether a step is still to be made.
func isPending(db *gorm.DB, id string) (bool, error) {
	if !db.Migrator().HasTable("migrations") {
		return true, nil
	}
	var n int64
	err := db.Raw("SELECT count(*) FROM migrations WHERE id = ?", id).Row().Scan(&n)
	return n == 0, err
}
