package database

import (
	"errors"
	"fmt"
	"os"

	"kvstore/backend/kv"
)

// inPlace returns nil when the file that is open is still the one that has the name of
// the database. After it was moved, removed or replaced, what is written goes to a file
// that no later start would find, so nothing may be written and answered.
func (db *DB) inPlace() error {
	opened, err := db.pages.Stat()
	if errors.Is(err, os.ErrClosed) { // the database is closed, which what comes next tells
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the database file: %w: %w", kv.ErrUnavailable, err)
	}
	named, err := os.Stat(db.path)
	if err == nil && os.SameFile(named, opened) {
		return nil
	}
	return &kv.Error{Kind: kv.ErrUnavailable, Detail: "The database file was moved, removed or replaced while the service runs; " +
		"nothing is written until the service is restarted"}
}
