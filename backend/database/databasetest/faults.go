package databasetest

import (
	"database/sql/driver"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/mattn/go-sqlite3"

	"kvstore/backend/database"
	"kvstore/backend/database/sqlite"
)

// Faults make the database fail as a disk does. They are SQLite's own errors, from
// its own code.
type Faults struct {
	failCommits atomic.Int64
	failed      atomic.Int64
	writer      *sqlite3.SQLiteConn
}

// FailCommits lets the next n commits fail, after all was written and before the
// commit is done.
func (f *Faults) FailCommits(n int64) { f.failCommits.Store(n) }

// Failed is how many commits have failed.
func (f *Faults) Failed() int64 { return f.failed.Load() }

// FillDisk lets the database file grow no further, so that a write that needs
// another page fails with "disk is full". Nothing may be written meanwhile.
func (f *Faults) FillDisk(t testing.TB) {
	t.Helper()
	f.limitPages(t, 1) // SQLite takes the present size when that is larger
}

// EmptyDisk undoes FillDisk.
func (f *Faults) EmptyDisk(t testing.TB) {
	t.Helper()
	f.limitPages(t, 1<<30)
}

func (f *Faults) limitPages(t testing.TB, pages int64) {
	t.Helper()
	f.Exec(t, fmt.Sprintf("PRAGMA max_page_count = %d", pages))
}

// Exec runs a statement on the connection that writes. Nothing may be written meanwhile.
func (f *Faults) Exec(t testing.TB, statement string) {
	t.Helper()
	if _, err := f.writer.Exec(statement, nil); err != nil {
		t.Fatal(err)
	}
}

// OpenFaulty opens the database, as Open does, together with its faults.
func OpenFaulty(t testing.TB, url string) (*database.DB, *Faults) {
	t.Helper()
	faults := &Faults{}
	db := open(t, sqlite.Config{
		URL: url, Logger: slog.New(slog.DiscardHandler),
		ConnectHook: func(conn driver.Conn) error {
			faults.writer = conn.(*sqlite3.SQLiteConn)
			faults.writer.RegisterCommitHook(func() int {
				if faults.failCommits.Add(-1) >= 0 {
					faults.failed.Add(1)
					return 1 // SQLite rolls back
				}
				return 0
			})
			return nil
		},
	})
	return db, faults
}
