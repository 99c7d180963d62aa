package database

import (
	"testing"

	"gorm.io/gorm"
)

// MakeBefore makes a database at path with only the first n migrations, and runs the
// statements in it.
func MakeBefore(t *testing.T, path string, n int, statements func(*gorm.DB) error) {
	t.Helper()
	pragmas := sharedPragmas()
	pragmas.Set("_journal_mode", "WAL")
	err := withConnection(path, pragmas, func(db *gorm.DB) error {
		if err := migrateBy(db, migrations()[:n]); err != nil {
			return err
		}
		return statements(db)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// BeginChecksums does the part of the upgrade that comes before an interruption.
func BeginChecksums(t *testing.T, path string) {
	t.Helper()
	MakeBefore(t, path, 3, func(db *gorm.DB) error {
		_, err := moveSome(db)
		return err
	})
}
