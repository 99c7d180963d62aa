package sqlite_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/kv"
)

// backedUp makes a database with one key and a backup of it.
func backedUp(t *testing.T) (url, backup string) {
	t.Helper()
	url = databasetest.URL(t)
	db := databasetest.Open(t, url)
	databasetest.Put(t, db, "k", "1")
	backup = filepath.Join(t.TempDir(), "backup.db")
	if _, err := sqlite.Backup(t.Context(), url, sqlite.Target{Name: backup}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return url, backup
}

// TestRestoreRefuses: the reason is said, the database stays what it was, and nothing is
// left beside it.
func TestRestoreRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, backup string)
		want  string
	}{
		"a directory": {func(t *testing.T, backup string) {
			if err := errors.Join(os.Remove(backup), os.Mkdir(backup, 0o750)); err != nil {
				t.Fatal(err)
			}
		}, "is not a file"},
		"an empty file": {func(t *testing.T, backup string) {
			if err := os.Truncate(backup, 0); err != nil {
				t.Fatal(err)
			}
		}, "it is empty: it holds no store"},
		"a file that was cut": {func(t *testing.T, backup string) {
			if err := os.Truncate(backup, 30_000); err != nil {
				t.Fatal(err)
			}
		}, "damaged"},
		"a file without its log": {func(t *testing.T, backup string) {
			if err := os.WriteFile(backup+"-wal", []byte("what was written last"), 0o640); err != nil {
				t.Fatal(err)
			}
		}, "a part of it is in "},
		"another program's": {func(t *testing.T, backup string) {
			if err := os.Remove(backup); err != nil {
				t.Fatal(err)
			}
			rawDB(t, "sqlite:"+backup, "CREATE TABLE keys (key TEXT PRIMARY KEY, created_at REAL)")
		}, "of another program"},
		"counters that do not agree": {func(t *testing.T, backup string) {
			rawDB(t, "sqlite:"+backup, "UPDATE store SET total_versions = 7")
		}, "counts 7 versions and has 1"},
		"a latest version that is not there": {func(t *testing.T, backup string) {
			rawDB(t, "sqlite:"+backup, "PRAGMA foreign_keys = off; UPDATE keys SET revision = 99")
		}, "lack their latest version"},
		"a newer schema": {func(t *testing.T, backup string) {
			rawDB(t, "sqlite:"+backup, "PRAGMA user_version = 2")
		}, "newer than this program"},
		"one of the development": {func(t *testing.T, backup string) {
			rawDB(t, "sqlite:"+backup, ofDevelopment...)
		}, "backup.db: " + sqlite.ErrDevelopment.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			url, backup := backedUp(t)
			path, _ := sqlite.ParseURL(url)
			before := databasetest.ReadFile(t, url)
			c.spoil(t, backup)
			_, kept, err := sqlite.Restore(t.Context(), backup, url, time.Now())
			if err == nil || !strings.Contains(err.Error(), c.want) || kept != "" {
				t.Errorf("Restore = %q, %v, want %q", kept, err, c.want)
			}
			if string(databasetest.ReadFile(t, url)) != string(before) {
				t.Error("the database was changed")
			}
			expectBeside(t, path, path, path+".lock")
		})
	}
}

func expectBeside(t *testing.T, path string, want ...string) {
	t.Helper()
	found, err := filepath.Glob(path + "*")
	if err != nil || strings.Join(found, " ") != strings.Join(want, " ") {
		t.Errorf("there are %q (%v), want %q", found, err, want)
	}
}

// TestRestoreGivenUp: when it is interrupted while it copies, all is as before.
func TestRestoreGivenUp(t *testing.T) {
	url, backup := backedUp(t)
	path, _ := sqlite.ParseURL(url)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := sqlite.Restore(ctx, backup, url, time.Now()); !errors.Is(err, context.Canceled) {
		t.Errorf("Restore = %v, want Canceled", err)
	}
	expectBeside(t, path, path, path+".lock")
}

// TestOpenRemovesPartial: what a restore that was killed had copied goes with the next start.
func TestOpenRemovesPartial(t *testing.T) {
	url, _ := backedUp(t)
	path, _ := sqlite.ParseURL(url)
	if err := os.WriteFile(path+".partial", []byte("half of a backup"), 0o640); err != nil {
		t.Fatal(err)
	}
	db := databasetest.Open(t, url)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	expectBeside(t, path, path, path+".lock")
}

// TestRestoreByRoot: what root restores belongs to the owner of the directory, who must be
// able to open it; and a backup to whom it is given, with the directories made for it.
func TestRestoreByRoot(t *testing.T) {
	url, backup := backedUp(t)
	path, _ := sqlite.ParseURL(url)
	const owner = 12345
	if err := os.Chown(filepath.Dir(path), owner, owner); err != nil {
		t.Skipf("only root can give files to others: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, _, err := sqlite.Restore(t.Context(), backup, url, time.Now()); err != nil {
		t.Fatal(err)
	}
	given := filepath.Join(filepath.Dir(path), "new", "newer", "backup.db")
	if _, err := sqlite.Backup(t.Context(), url, sqlite.Target{Name: given, Give: true, UID: owner, GID: owner}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + ".lock", given, filepath.Dir(given), filepath.Dir(filepath.Dir(given))} {
		if got := ownerOf(t, name); got != owner {
			t.Errorf("%s belongs to %d, want %d", name, got, owner)
		}
	}
}

// TestBackupTwice: two that write the same file do not mix.
func TestBackupTwice(t *testing.T) {
	url, backup := backedUp(t)
	half := backup + "2.kv-backup.partial"
	other := flock.New(half)
	if locked, err := other.TryLock(); err != nil || !locked {
		t.Fatal(locked, err)
	}
	defer other.Close()
	if _, err := sqlite.Backup(t.Context(), url, sqlite.Target{Name: backup + "2"}); err == nil || !strings.Contains(err.Error(), "another process is writing") {
		t.Errorf("Backup = %v", err)
	}
	if _, err := os.Stat(half); err != nil {
		t.Errorf("the file of the other is gone: %v", err)
	}
	if _, err := sqlite.Backup(t.Context(), url, sqlite.Target{Name: filepath.Dir(backup), Replace: true}); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("Backup to a directory = %v", err)
	}
}

// TestBackupRemovesKilled: what a backup left that was killed goes with the next one in the
// directory, under whatever name; what another is writing or has just written stays, and so does what no backup made.
func TestBackupRemovesKilled(t *testing.T) {
	url, backup := backedUp(t)
	dir := filepath.Join(t.TempDir(), "odd [name]*")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-time.Hour)
	for name, age := range map[string]time.Time{
		"killed.db.kv-backup.partial": long, "locked.db.kv-backup.partial": long, "fresh.db.kv-backup.partial": time.Now(),
		"killed.db.kv-backup.partial-journal": long, "download.partial": long,
	} {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(name, []byte("half"), 0o640), os.Chtimes(name, age, age)); err != nil {
			t.Fatal(err)
		}
	}
	other := flock.New(filepath.Join(dir, "locked.db.kv-backup.partial"))
	if locked, err := other.TryLock(); err != nil || !locked {
		t.Fatal(locked, err)
	}
	defer other.Close()
	if _, err := sqlite.Backup(t.Context(), url, sqlite.Target{Name: filepath.Join(dir, filepath.Base(backup))}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if got, want := strings.Join(names, " "), "backup.db download.partial fresh.db.kv-backup.partial locked.db.kv-backup.partial"; err != nil || got != want {
		t.Errorf("there are %s, %v, want %s", got, err, want)
	}
}

// TestRestoreGoesOn: a restored database uses no revision again that was given out since the
// backup, known or not, and whatever the clock says; not even the next restore does.
func TestRestoreGoesOn(t *testing.T) {
	const leastStep, lastRevision = 1 << 36, 1<<53 - 1
	for name, c := range map[string]struct {
		later    int           // writes to the database that is replaced
		lost     bool          // there is none
		since    time.Duration // the last write of the backup
		atLeast  int64
		restores int
	}{
		"at once":                       {later: 3, atLeast: 4 + leastStep, restores: 1},
		"after a year":                  {lost: true, since: 365 * 24 * time.Hour, atLeast: 364 * 24 * time.Hour.Microseconds(), restores: 1},
		"with a clock that is not set":  {lost: true, since: -50 * 365 * 24 * time.Hour, atLeast: 1 + leastStep, restores: 1},
		"with one that is far ahead":    {later: 1, since: 200 * 365 * 24 * time.Hour, atLeast: 2 + leastStep, restores: 1},
		"again and again, far too late": {later: 1, since: 200 * 365 * 24 * time.Hour, atLeast: 100 * leastStep, restores: 100},
	} {
		t.Run(name, func(t *testing.T) {
			url, backup := backedUp(t)
			path, _ := sqlite.ParseURL(url)
			db := databasetest.Open(t, url)
			for range c.later {
				databasetest.Put(t, db, "later", "1")
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if c.lost {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			before := int64(0)
			for range c.restores {
				restored, _, err := sqlite.Restore(t.Context(), backup, url, time.UnixMicro(1).Add(c.since))
				if err != nil {
					t.Fatal(err)
				}
				if restored.Revision != 1 || restored.Restored < before+leastStep || restored.Restored > lastRevision {
					t.Fatalf("restored %+v behind %d", restored, before)
				}
				before = restored.Restored
			}
			if before < c.atLeast {
				t.Errorf("it goes on with %d, want %d at least", before, c.atLeast)
			}
			db = databasetest.Open(t, url)
			databasetest.Put(t, db, "k", "2")
			stats, err := db.Stats(t.Context())
			if err != nil || stats.Revision != before+1 || stats.Restored != before || stats.Keys != 1 || stats.Versions != 2 {
				t.Errorf("after the next write: %+v, %v", stats.Totals, err)
			}
			page, err := db.Events(t.Context(), database.EventsRequest{Keys: kv.AllKeys(), Last: stats.Revision})
			if err != nil || len(page.Entries) != 2 || page.Gone != 0 || page.Through != stats.Revision {
				t.Errorf("its feed: %+v, %v", page, err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := sqlite.Check(t.Context(), url); err != nil {
				t.Error(err)
			}
		})
	}
}
