package postgres

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// oldestServer is the first version of PostgreSQL that is supported, as server_version_num tells it.
const oldestServer = 140000

// leastSchema is the oldest schema whose programs can use the tables as they are made here.
const leastSchema = 1

// schemaRow is the only row of its table. It is there, with version 0, before the other tables are.
type schemaRow struct {
	ID      int64 `gorm:"primaryKey;autoIncrement:false"` // onlyRow
	Version int64 `gorm:"not null"`
	Least   int64 `gorm:"not null"` // the version that a program must know to use the tables
}

// identityRow is the only row of its table. It changes only when another store is moved or restored to
// an empty database.
type identityRow struct {
	ID        int64  `gorm:"primaryKey;autoIncrement:false"` // onlyRow
	UUID      string `gorm:"type:text;not null"`
	CreatedAt int64  `gorm:"not null;autoCreateTime:false"` // Unix microseconds
}

// commitRow is one transaction. The first has the number 0 and changed nothing.
type commitRow struct {
	Seq            int64         `gorm:"primaryKey;autoIncrement:false"`
	Batch          []byte        `gorm:"type:bytea;not null"` // an id that no other commit has
	Backend        string        `gorm:"type:text;not null"`
	RevisionBefore int64         `gorm:"not null"`
	RevisionAfter  int64         `gorm:"not null"`
	Clock          int64         `gorm:"not null"` // no version up to this one is later; Unix microseconds
	TotalKeys      int64         `gorm:"not null"`
	TotalVersions  int64         `gorm:"not null"`
	Compacted      int64         `gorm:"not null"`
	Forgotten      int64         `gorm:"not null"`
	Restored       int64         `gorm:"not null"`
	Touched        array[[]byte] `gorm:"type:bytea[];not null"` // what was destroyed or erased: each a database.Loss as JSON
	Checksum       int64         `gorm:"not null"`              // see database.Identity
}

// leaseRow says which process does what one does for all.
type leaseRow struct {
	ID     int64  `gorm:"primaryKey;autoIncrement:false"` // onlyRow
	Holder string `gorm:"type:text;not null"`
	Until  int64  `gorm:"not null"` // Unix microseconds
}

const onlyRow = 1

func (schemaRow) TableName() string   { return "kvstore_schema" }
func (identityRow) TableName() string { return "identity" }
func (commitRow) TableName() string   { return "commits" }
func (leaseRow) TableName() string    { return "lease" }

// storeView has the columns of the table store of package database.
const storeView = `CREATE VIEW store AS
	SELECT identity.id, identity.uuid, identity.created_at, commits.revision_after AS revision, commits.total_keys,
		commits.total_versions, commits.compacted, commits.forgotten, commits.restored, commits.checksum
	FROM identity CROSS JOIN commits WHERE commits.seq = (SELECT max(seq) FROM commits)`

// tables are the names of what createSchema makes.
var tables = []string{"kvstore_schema", "identity", "commits", "lease", "store", "keys", "versions", "erased", "members"}

// prepare checks that the server is one for this program, and makes the schema when there is none. Of
// several backends that start at once one makes it, and the others wait.
func prepare(ctx context.Context, db *gorm.DB) error {
	db = db.WithContext(ctx)
	if err := checkServer(db); err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		version, err := findSchema(db)
		if err == nil && version == 0 {
			err = createSchema(db)
		}
		// Of two that make a table at once the server refuses one, even with IF NOT EXISTS.
		made := slices.Contains([]string{uniqueViolation, duplicateTable, duplicateObject}, codeOf(err))
		if err == nil || attempt == 20 || !made {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// readSchema returns the version of the schema, 0 when another backend has just begun to make it. The error
// says so if it is not for this program.
func readSchema(db *gorm.DB) (version int64, err error) {
	var least int64
	err = db.Raw("SELECT version, least FROM kvstore_schema WHERE id = 1").Row().Scan(&version, &least)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return version, cmp.Or(err, refuseSchema(version, least))
}

// refuseSchema returns nil for a program that can use the schema.
func refuseSchema(version, least int64) error {
	if least <= database.SchemaVersion {
		return nil
	}
	return fmt.Errorf("it has schema %d, for programs that know schema %d or later; this one knows schema %d: "+
		"start a newer version", version, least, database.SchemaVersion)
}

// checkServer says what the server lacks.
func checkServer(db *gorm.DB) error {
	var number int64
	var version, encoding string
	err := db.Raw(`SELECT CAST(current_setting('server_version_num') AS bigint), current_setting('server_version'),
		current_setting('server_encoding')`).Row().Scan(&number, &version, &encoding)
	if err != nil {
		return err
	}
	return refuseServer(number, version, encoding)
}

func refuseServer(number int64, version, encoding string) error {
	switch {
	case number < oldestServer:
		return fmt.Errorf("the server is PostgreSQL %s; it must be 14 or later", version)
	case encoding != "UTF8":
		return fmt.Errorf("the database has the encoding %s; it must be UTF8, as with "+
			"CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0", encoding)
	}
	return nil
}

// findSchema returns the version of the schema, 0 when there is none and it may be made here.
func findSchema(db *gorm.DB) (version int64, err error) {
	var role string
	var where sql.NullString
	var may sql.NullBool
	err = db.Raw("SELECT current_user, current_schema(), has_schema_privilege(current_schema(), 'CREATE')").
		Row().Scan(&role, &where, &may)
	if err != nil {
		return 0, err
	}
	if !where.Valid {
		return 0, fmt.Errorf("no schema of the search_path of the role %q exists, or it may use none", role)
	}
	var found []string
	const tablesSQL = `SELECT table_name FROM information_schema.tables
		WHERE table_schema = current_schema() AND table_name IN ?`
	err = db.Raw(tablesSQL, tables).Scan(&found).Error
	if err != nil {
		return 0, err
	}
	if slices.Contains(found, schemaRow{}.TableName()) {
		if version, err = readSchema(db); err != nil || version > 0 {
			return version, err
		}
	} else if len(found) > 0 {
		return 0, fmt.Errorf("its schema %q has tables of another program (%s); use a database, "+
			"or by search_path a schema, of this program alone", where.String, strings.Join(found, ", "))
	}
	if !may.Bool {
		return 0, fmt.Errorf(`the role %q may not make tables: GRANT CREATE ON SCHEMA %q TO %q`, role, where.String, role)
	}
	return 0, nil
}

// createSchema makes the tables, in one transaction, unless another backend has made them meanwhile.
func createSchema(db *gorm.DB) error {
	for _, statement := range []string{
		"CREATE TABLE IF NOT EXISTS kvstore_schema (id bigint PRIMARY KEY, version bigint NOT NULL, least bigint NOT NULL)",
		"INSERT INTO kvstore_schema (id, version, least) VALUES (1, 0, 0) ON CONFLICT DO NOTHING",
	} {
		if err := db.Exec(statement).Error; err != nil {
			return err
		}
	}
	return db.Transaction(func(tx *gorm.DB) error {
		var version int64
		err := tx.Raw("SELECT version FROM kvstore_schema WHERE id = 1 FOR UPDATE").Row().Scan(&version)
		if err != nil || version > 0 {
			return err
		}
		if err := tx.Migrator().CreateTable(&identityRow{}, &commitRow{}, &leaseRow{}, &memberRow{}); err != nil {
			return err
		}
		if err := database.CreateTables(tx); err != nil {
			return err
		}
		store := database.NewIdentity()
		return first(tx.Exec(storeView),
			tx.Create(&identityRow{ID: onlyRow, UUID: store.StoreID, CreatedAt: store.Created}),
			tx.Create(&leaseRow{ID: onlyRow}),
			tx.Create(&commitRow{Batch: make([]byte, 16), Touched: array[[]byte]{}, Checksum: store.Checksum(kv.Totals{})}),
			tx.Exec("UPDATE kvstore_schema SET version = ?, least = ? WHERE id = 1", database.SchemaVersion, leastSchema))
	})
}

// first returns the first error.
func first(done ...*gorm.DB) error {
	for _, tx := range done {
		if tx.Error != nil {
			return tx.Error
		}
	}
	return nil
}
