package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/kv"
)

const left = "left in the gap of a page"

// withLeft opens a database of some megabytes that has something left in the gaps of many
// pages, as rows that move leave it. The value of key "first" stands before all others.
func withLeft(t testing.TB, prepare ...string) (db *database.DB, path string) {
	t.Helper()
	url := databasetest.URL(t)
	path, _ = sqlite.ParseURL(url)
	made, err := sqlite.Open(t.Context(), sqlite.Config{URL: url, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	databasetest.Write(t, made, kv.Entry{Key: "first", Value: bytes.Repeat([]byte("1"), 2<<20)})
	entries := make([]kv.Entry, 16_000)
	for i := range entries {
		entries[i] = kv.Entry{Key: fmt.Sprintf("key%08d", i), Value: bytes.Repeat([]byte("7"), 200+i%200)}
	}
	databasetest.Write(t, made, entries...)
	if err := made.Close(); err != nil {
		t.Fatal(err)
	}
	for _, statement := range prepare {
		foreign(t, path, func(conns *sql.DB) {
			if _, err := conns.ExecContext(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		})
	}
	if planted := sqlite.Plant(t, path, left); planted < 3*sqlite.ScrubPages/2 {
		t.Fatalf("something is left in %d pages, too few to tell", planted)
	}
	return databasetest.Open(t, url), path
}

// foreign calls fn with connections that the database does not know of.
func foreign(t testing.TB, path string, fn func(*sql.DB)) {
	t.Helper()
	conns, err := sql.Open("sqlite3", path+"?_busy_timeout=5000&_auto_vacuum=incremental")
	if err != nil {
		t.Fatal(err)
	}
	defer conns.Close()
	fn(conns)
}

// countLeft returns how often that is in the file and its log.
func countLeft(t testing.TB, path string) (n int) {
	t.Helper()
	for _, name := range []string{path, path + "-wal"} {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() }) // SQLite's locks would go with it now
		data, err := io.ReadAll(file)
		if err != nil {
			t.Fatal(err)
		}
		n += bytes.Count(data, []byte(left))
	}
	return n
}

// TestWritesGoOnBesideScrub: a pass lets go of the writer while it reads the file, and
// overwrites few pages at a time.
func TestWritesGoOnBesideScrub(t *testing.T) {
	db, path := withLeft(t)
	writes, steps, most := 0, 0, 0
	err := sqlite.ScrubWith(db, t.Context(), func(pages int) {
		writes++
		databasetest.Put(t, db, "beside", strconv.Itoa(writes)) // would wait for ever if the pass had the writer
		if most = max(most, pages); pages > 0 {
			steps++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := countLeft(t, path); n > 0 {
		t.Errorf("%d pages still have something left", n)
	}
	if steps < 3 || most > sqlite.ScrubPages {
		t.Errorf("it took %d steps, the largest of %d pages, want 3 or more of at most %d", steps, most, sqlite.ScrubPages)
	}
	if v, err := db.Latest(t.Context(), "beside"); err != nil || v.Version != int64(writes) || writes < 5 {
		t.Errorf("after %d writes: %+v, %v", writes, v, err)
	}
}

// TestScrubFindsPagesThatMove: pages that the scan has not reached move to where it has
// been, with what is left in them.
func TestScrubFindsPagesThatMove(t *testing.T) {
	db, path := withLeft(t)
	destroy(t, db, "first", 1) // there is room now
	calls := 0
	err := sqlite.ScrubWith(db, t.Context(), func(int) {
		if calls++; calls != 3 { // the scan has been at the beginning
			return
		}
		if err := sqlite.MovePages(db, t.Context(), 300); err != nil {
			t.Error(err)
		}
	})
	if err != nil || calls < 5 {
		t.Fatal(calls, err)
	}
	if n := countLeft(t, path); n > 0 {
		t.Errorf("%d pages still have something left", n)
	}
}

// asking is a context that tells when it is first waited for.
type asking struct {
	context.Context
	once *sync.Once
	came *sync.WaitGroup
}

func (a asking) Done() <-chan struct{} {
	a.once.Do(a.came.Done)
	return a.Context.Done()
}

// TestScrubsShareAPass: those that come while a pass runs are served by one more. One that
// is given up takes nobody with it.
func TestScrubsShareAPass(t *testing.T) {
	db, _ := withLeft(t)
	const callers = 20
	var came, done sync.WaitGroup
	ask := func() {
		for range callers {
			came.Add(1)
			done.Go(func() {
				if _, err := db.Scrub(asking{t.Context(), new(sync.Once), &came}); err != nil {
					t.Error(err)
				}
			})
		}
		came.Wait()
	}
	var once sync.Once
	if err := sqlite.ScrubWith(db, t.Context(), func(int) { once.Do(ask) }); err != nil {
		t.Fatal(err)
	}
	done.Wait()
	if n := sqlite.Passes(db); n != 2 {
		t.Errorf("%d passes for one call and %d beside it, want 2", n, callers)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var again sync.Once
	err := sqlite.ScrubWith(db, ctx, func(int) { again.Do(func() { ask(); cancel() }) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a pass that was given up: %v", err)
	}
	done.Wait()
	if n := sqlite.Passes(db); n != 4 {
		t.Errorf("%d passes, want two more", n)
	}
}

// TestScrubBesideAForeignWriter: another process writes into the gaps that a pass
// overwrites, and moves the log into the file.
func TestScrubBesideAForeignWriter(t *testing.T) {
	const rows = 4000
	db, path := withLeft(t, "CREATE TABLE foreign_rows (id INTEGER PRIMARY KEY, value TEXT NOT NULL)",
		fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d - 1) "+
			"INSERT INTO foreign_rows SELECT i, hex(zeroblob(150)) FROM n", rows),
		"DELETE FROM foreign_rows WHERE id % 3 = 0") // room, which is filled below
	foreign(t, path, func(conns *sql.DB) {
		conns.SetMaxOpenConns(1)
		if _, err := conns.ExecContext(t.Context(), "PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 1"); err != nil {
			t.Fatal(err)
		}
		var stop atomic.Bool
		var writing sync.WaitGroup
		written := 0
		writing.Go(func() {
			for ; !stop.Load() && written < 100*rows; written++ {
				if _, err := conns.ExecContext(t.Context(), "INSERT OR REPLACE INTO foreign_rows VALUES (?, ?)", written%rows, foreignValue(written)); err != nil {
					t.Error(err)
					return
				}
			}
		})
		for range 5 {
			if _, err := db.Scrub(t.Context()); err != nil && !errors.Is(err, kv.ErrUnavailable) {
				t.Error(err)
			}
		}
		stop.Store(true)
		writing.Wait()
		var found string
		if err := conns.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&found); err != nil || found != "ok" {
			t.Fatal(found, err)
		}
		for n := max(0, written-rows); n < written; n++ {
			err := conns.QueryRowContext(t.Context(), "SELECT value FROM foreign_rows WHERE id = ?", n%rows).Scan(&found)
			if err != nil || found != foreignValue(n) {
				t.Fatalf("row %d of %d has %q, %v", n, written, found, err)
			}
		}
		t.Logf("%d writes by the other", written)
	})
	if _, err := db.Scrub(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func foreignValue(n int) string { return strings.Repeat(strconv.Itoa(n)+".", 40+n%17) }
