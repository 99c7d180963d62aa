package database

import (
	"errors"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// SchemaVersion is the version of the tables. An engine stores it with them. See doc.go for what
// the next version needs.
const SchemaVersion = 1

// CreateSchema creates the tables of a new database, and the row of the store.
func CreateSchema(tx *gorm.DB) error {
	if err := errors.Join(tx.Migrator().CreateTable(&storeRow{}), CreateTables(tx)); err != nil {
		return err
	}
	store := NewIdentity()
	row := storeRow{ID: storeRowID, UUID: store.StoreID, CreatedAt: store.Created, Checksum: store.Checksum(kv.Totals{})}
	return tx.Create(&row).Error
}

// CreateTables is CreateSchema without the table store, in place of which the engine has a view with
// its columns.
func CreateTables(tx *gorm.DB) error {
	return tx.Migrator().CreateTable(&keyRow{}, &versionRow{}, &erasedRow{})
}

// storeRow is the only row of its table.
type storeRow struct {
	ID            int64  `gorm:"primaryKey;autoIncrement:false"` // storeRowID
	UUID          string `gorm:"not null"`
	CreatedAt     int64  `gorm:"not null;autoCreateTime:false"` // Unix microseconds
	Revision      int64  `gorm:"not null"`
	TotalKeys     int64  `gorm:"not null"`
	TotalVersions int64  `gorm:"not null"`
	Compacted     int64  `gorm:"not null;default:0"` // up to it revisions may be missing: removed, or skipped by a restore
	Forgotten     int64  `gorm:"not null;default:0"` // the highest revision that was removed together with the name of its key
	Restored      int64  `gorm:"not null;default:0"` // the revision from which the store continued after its last restore, or 0
	Checksum      int64  `gorm:"not null;default:0"` // see Identity.Checksum
}

// keyRow is one key and where its latest version stands.
type keyRow struct {
	ID            int64  `gorm:"primaryKey;autoIncrement:false"` // the revision of the key's first version
	Key           string `gorm:"not null;uniqueIndex:keys_key;index:keys_live,priority:1,where:NOT deleted"`
	Version       int64  `gorm:"not null"` // the latest
	Revision      int64  `gorm:"not null"` // of the latest version
	Timestamp     int64  `gorm:"not null"` // of the latest version, Unix microseconds
	TotalVersions int64  `gorm:"not null"` // those in the history and not destroyed
	Deleted       bool   `gorm:"not null;default:false"`
	ExpiresAt     int64  `gorm:"not null;default:0;index:keys_expires_at,where:expires_at > 0;index:keys_live,priority:2"` // of the latest version, Unix microseconds, 0 is never
	CompleteFrom  int64  `gorm:"not null;default:0"`                                                                       // from this version on none is missing
	Pruned        int64  `gorm:"not null;default:0;index:keys_pruned,where:pruned > 0"`                                    // the highest revision that retention removed of it
	Checksum      int64  `gorm:"not null;default:0"`                                                                       // see keyChecksum
}

// erasedRow keeps the last version of an erased key, under a digest of its name, so that a key of that
// name never repeats a number.
type erasedRow struct {
	Digest   []byte `gorm:"primaryKey"`
	Version  int64  `gorm:"not null"`
	Checksum int64  `gorm:"not null;default:0"` // see erasedChecksum
}

// versionRow is one version of a key. The value comes last, so that reading the
// small columns never follows its overflow pages.
type versionRow struct {
	Revision    int64  `gorm:"primaryKey;autoIncrement:false"`
	KeyID       int64  `gorm:"not null;uniqueIndex:versions_key_version,priority:1"`
	Version     int64  `gorm:"not null;uniqueIndex:versions_key_version,priority:2"`
	Timestamp   int64  `gorm:"not null"` // Unix microseconds
	Operation   string `gorm:"not null"`
	ContentType string `gorm:"not null"` // empty for a JSON text
	Author      string `gorm:"not null"`
	ExpiresAt   int64  `gorm:"not null"` // Unix microseconds, 0 is never
	Destroyed   bool   `gorm:"not null"`
	Checksums   int64  `gorm:"not null"` // see checksumsOf
	Value       []byte `gorm:"not null"`
	Key         keyRow `gorm:"foreignKey:KeyID;references:ID"`
}

const storeRowID = 1

func (storeRow) TableName() string   { return "store" }
func (keyRow) TableName() string     { return "keys" }
func (versionRow) TableName() string { return "versions" }
func (erasedRow) TableName() string  { return "erased" }
