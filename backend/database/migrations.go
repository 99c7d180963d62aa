package database

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/go-gormigrate/gormigrate/v2"
	"github.com/google/uuid"
	"gorm.io/gorm"
)

// migrate brings the schema to the newest number. Each step runs in a transaction
// of its own and is recorded in the table migrations; a step never changes once
// it was released. A file that has a step which this program does not know is
// refused: a newer program wrote it.
//
// In front of the step stepSealed every version gets its checksums, see moveVersions.
func migrate(ctx context.Context, db *gorm.DB, logger *slog.Logger) error {
	db = db.WithContext(ctx)
	steps := migrations()
	if pending, err := isPending(db, stepSealed); err != nil || !pending {
		return errors.Join(err, migrateBy(db, steps))
	}
	before := slices.IndexFunc(steps, func(m *gormigrate.Migration) bool { return m.ID == stepSealed })
	if err := migrateBy(db, steps[:before]); err != nil {
		return err
	}
	if err := moveVersions(db, logger); err != nil {
		return err
	}
	return migrateBy(db, steps)
}

func migrateBy(db *gorm.DB, steps []*gormigrate.Migration) error {
	options := &gormigrate.Options{
		TableName:                 "migrations",
		IDColumnName:              "id",
		IDColumnSize:              255,
		UseTransaction:            true,
		ValidateUnknownMigrations: true,
	}
	err := gormigrate.New(db, options, steps).Migrate()
	if errors.Is(err, gormigrate.ErrUnknownPastMigration) {
		return errors.New("its schema is newer than this program: run the version that wrote it, or a later one")
	}
	return err
}

func migrations() []*gormigrate.Migration {
	return []*gormigrate.Migration{
		{ID: "0001_keys_and_versions", Migrate: createKeysAndVersions},
		{ID: "0002_operations", Migrate: addOperations},
		{ID: "0003_checksums", Migrate: addChecksums},
		{ID: stepSealed, Migrate: endChecksums},
		{ID: "0005_gaps", Migrate: addGaps},
	}
}

const stepSealed = "0004_checksums_of_all"

// createKeysAndVersions has its own copies of the models, since the models go on
// changing and this step must not.
func createKeysAndVersions(tx *gorm.DB) error {
	type store struct {
		ID            int64  `gorm:"primaryKey;autoIncrement:false"`
		UUID          string `gorm:"type:text;not null"`
		CreatedAt     int64  `gorm:"not null;autoCreateTime:false"`
		Revision      int64  `gorm:"not null"`
		TotalKeys     int64  `gorm:"not null"`
		TotalVersions int64  `gorm:"not null"`
	}
	type key struct {
		ID            int64  `gorm:"primaryKey;autoIncrement:false"`
		Key           string `gorm:"type:text;not null;uniqueIndex:keys_key"`
		Version       int64  `gorm:"not null"`
		Revision      int64  `gorm:"not null"`
		Timestamp     int64  `gorm:"not null"`
		TotalVersions int64  `gorm:"not null"`
	}
	type version struct {
		Revision  int64  `gorm:"primaryKey;autoIncrement:false"`
		KeyID     int64  `gorm:"not null;uniqueIndex:versions_key_version,priority:1"`
		Version   int64  `gorm:"not null;uniqueIndex:versions_key_version,priority:2"`
		Timestamp int64  `gorm:"not null"`
		Value     []byte `gorm:"type:blob;not null"`
		Key       key    `gorm:"foreignKey:KeyID;references:ID"`
	}
	if err := tx.Table("store").Migrator().CreateTable(&store{}); err != nil {
		return fmt.Errorf("create table store: %w", err)
	}
	if err := tx.Migrator().CreateTable(&key{}, &version{}); err != nil {
		return fmt.Errorf("create tables keys and versions: %w", err)
	}
	if err := tx.Exec(stampSQL).Error; err != nil {
		return fmt.Errorf("stamp the file: %w", err)
	}
	return tx.Table("store").Create(&store{ID: storeRowID, UUID: uuid.NewString(), CreatedAt: time.Now().UnixMicro()}).Error
}

// addOperations adds what a version is besides a value, deletion, expiry and
// erasure. The table versions is made anew: an added column would stand behind the
// value, and reading it would follow the value's overflow pages.
func addOperations(tx *gorm.DB) error {
	type erased struct {
		Digest  []byte `gorm:"type:blob;primaryKey"`
		Version int64  `gorm:"not null"`
	}
	type key struct {
		ID int64 `gorm:"primaryKey;autoIncrement:false"`
	}
	type version struct {
		Revision    int64  `gorm:"primaryKey;autoIncrement:false"`
		KeyID       int64  `gorm:"not null;uniqueIndex:versions_key_version,priority:1"`
		Version     int64  `gorm:"not null;uniqueIndex:versions_key_version,priority:2"`
		Timestamp   int64  `gorm:"not null"`
		Operation   string `gorm:"type:text;not null"`
		ContentType string `gorm:"type:text;not null"`
		Author      string `gorm:"type:text;not null"`
		ExpiresAt   int64  `gorm:"not null"`
		Destroyed   bool   `gorm:"not null"`
		Value       []byte `gorm:"type:blob;not null"`
		Key         key    `gorm:"foreignKey:KeyID;references:ID"`
	}
	if err := execAll(tx,
		"ALTER TABLE store ADD COLUMN compacted integer NOT NULL DEFAULT 0",
		"ALTER TABLE keys ADD COLUMN deleted numeric NOT NULL DEFAULT false",
		"ALTER TABLE keys ADD COLUMN expires_at integer NOT NULL DEFAULT 0",
		"CREATE INDEX keys_expires_at ON keys(expires_at) WHERE expires_at > 0",
		"CREATE INDEX keys_live ON keys(key, expires_at) WHERE NOT deleted",
		"DROP INDEX versions_key_version",
		"ALTER TABLE versions RENAME TO versions_before",
	); err != nil {
		return err
	}
	if err := tx.Table("erased").Migrator().CreateTable(&erased{}); err != nil {
		return fmt.Errorf("create table erased: %w", err)
	}
	if err := tx.Migrator().CreateTable(&version{}); err != nil {
		return fmt.Errorf("create table versions: %w", err)
	}
	return execAll(tx,
		`INSERT INTO versions SELECT revision, key_id, version, timestamp, 'put', '', '', 0, false, value
			FROM versions_before ORDER BY revision`,
		"DROP TABLE versions_before",
	)
}

// addGaps adds what a feed of events must know of revisions that are missing. Which keys
// those of an older file belonged to is not known, so they count as forgotten.
func addGaps(tx *gorm.DB) error {
	if err := execAll(tx,
		"ALTER TABLE keys ADD COLUMN pruned integer NOT NULL DEFAULT 0",
		"CREATE INDEX keys_pruned ON keys(pruned) WHERE pruned > 0",
		"ALTER TABLE store ADD COLUMN forgotten integer NOT NULL DEFAULT 0",
		"ALTER TABLE store ADD COLUMN restored integer NOT NULL DEFAULT 0",
		"UPDATE store SET forgotten = compacted",
	); err != nil {
		return err
	}
	return sealStore(tx)
}

func execAll(tx *gorm.DB, statements ...string) error {
	for _, statement := range statements {
		if err := tx.Exec(statement).Error; err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}
