package databasetest

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"

	"kvstore/backend/database"
	"kvstore/backend/database/postgres"
)

// Faults make the database fail as a disk does. They are the engine's own errors, from its own
// code: of SQLite by hooks, of PostgreSQL by triggers.
type Faults struct {
	t           testing.TB
	failCommits atomic.Int64
	failed      atomic.Int64
	writer      *sqlite3.SQLiteConn
	raw         *sql.DB // of PostgreSQL
}

// OpenFaulty opens the database, as Open does, together with its faults.
func OpenFaulty(t testing.TB, url string) (*database.DB, *Faults) {
	t.Helper()
	faults := &Faults{t: t}
	db := open(t, url, faults)
	if strings.HasPrefix(url, "postgres:") {
		faults.raw = Raw(t, url)
		faults.exec(triggers)
	}
	return db, faults
}

// connected notes the connection that writes.
func (f *Faults) connected(conn driver.Conn) error {
	f.writer = conn.(*sqlite3.SQLiteConn)
	f.writer.RegisterCommitHook(func() int {
		if f.failCommits.Add(-1) >= 0 {
			f.failed.Add(1)
			return 1 // SQLite rolls back
		}
		return 0
	})
	return nil
}

// triggers fail what the table faults says. A sequence counts, since it is not rolled back.
const triggers = `
	CREATE TABLE faults (commits bigint, size bigint);
	INSERT INTO faults VALUES (0, 1 << 30);
	CREATE SEQUENCE failed MINVALUE 0;
	SELECT setval('failed', 0);
	CREATE FUNCTION fail_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF (SELECT last_value FROM failed) < (SELECT commits FROM faults) THEN
			PERFORM nextval('failed');
			RAISE EXCEPTION 'a fault of the test';
		END IF;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER fail_commit AFTER INSERT ON commits DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail_commit();
	CREATE FUNCTION fill_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF length(NEW.value) > (SELECT size FROM faults) THEN
			RAISE EXCEPTION 'a fault of the test' USING ERRCODE = 'disk_full';
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER fill_disk BEFORE INSERT ON versions FOR EACH ROW EXECUTE FUNCTION fill_disk()`

func (f *Faults) exec(statements string) {
	f.t.Helper()
	if _, err := f.raw.ExecContext(f.t.Context(), statements); err != nil {
		f.t.Fatal(err)
	}
}

// FailCommits lets the next n commits fail, after all was written and before the
// commit is done.
func (f *Faults) FailCommits(n int64) {
	if f.raw != nil {
		f.exec(fmt.Sprintf("UPDATE faults SET commits = %d + (SELECT last_value FROM failed)", n))
		return
	}
	f.failCommits.Store(n)
}

// Failed is how many commits have failed.
func (f *Faults) Failed() (failed int64) {
	if f.raw == nil {
		return f.failed.Load()
	}
	if err := f.raw.QueryRowContext(f.t.Context(), "SELECT last_value FROM failed").Scan(&failed); err != nil {
		f.t.Error(err)
	}
	return failed
}

// FillDisk leaves room for small values alone: a write that needs another page fails with "disk is
// full". Nothing may be written meanwhile.
func (f *Faults) FillDisk(t testing.TB) {
	t.Helper()
	f.limit(t, 1, 1000) // SQLite takes the present size when that is larger
}

// EmptyDisk undoes FillDisk.
func (f *Faults) EmptyDisk(t testing.TB) {
	t.Helper()
	f.limit(t, 1<<30, 1<<30)
}

func (f *Faults) limit(t testing.TB, pages, size int64) {
	t.Helper()
	if f.raw != nil {
		f.exec(fmt.Sprintf("UPDATE faults SET size = %d", size))
		return
	}
	f.pragma(t, "max_page_count", pages)
}

// LimitWait bounds, as far as the engine can be told, how long a write waits for LockWrites. It
// returns the bound.
func (f *Faults) LimitWait(t testing.TB, wait time.Duration) time.Duration {
	t.Helper()
	if f.raw != nil {
		return postgres.LockTimeout
	}
	f.pragma(t, "busy_timeout", wait.Milliseconds())
	return wait
}

// pragma sets a value for the connection that writes. Nothing may be written meanwhile.
func (f *Faults) pragma(t testing.TB, name string, value int64) {
	t.Helper()
	if _, err := f.writer.Exec(fmt.Sprintf("PRAGMA %s = %d", name, value), nil); err != nil {
		t.Fatal(err)
	}
}
