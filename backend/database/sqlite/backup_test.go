package sqlite_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/sqlite"
)

// TestBackupUnderWrites copies a database that is being written to. The copy must
// be one moment: the totals, the versions and the latest value agree.
func TestBackupUnderWrites(t *testing.T) {
	url := databasetest.URL(t)
	db := databasetest.Open(t, url)
	databasetest.Put(t, db, "k", "1")
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		n := 1
		for {
			select {
			case <-stop:
				stopped <- n
				return
			default:
				n++
				databasetest.Put(t, db, "k", strconv.Itoa(n))
			}
		}
	}()
	copies := make([]string, 5)
	for i := range copies {
		copies[i] = filepath.Join(t.TempDir(), "new", fmt.Sprintf("copy%d.db", i))
		if _, err := sqlite.Backup(t.Context(), url, sqlite.Target{Name: copies[i]}); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	last := <-stopped
	for _, name := range copies {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: %v, %v, want the mode 0640", name, info.Mode(), err)
		}
		restored := databasetest.Open(t, "sqlite:"+name)
		stats, err := restored.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		latest, err := restored.Latest(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		if stats.Revision != latest.Version || string(latest.Value) != strconv.FormatInt(latest.Version, 10) || latest.Version > int64(last) {
			t.Errorf("%s: revision %d, latest version %d with value %s", name, stats.Revision, latest.Version, latest.Value)
		}
	}
	if latest, err := db.Latest(t.Context(), "k"); err != nil || latest.Version != int64(last) {
		t.Errorf("the source has version %d, %v, want %d", latest.Version, err, last)
	}
}

func TestRestore(t *testing.T) {
	url := databasetest.URL(t)
	db := databasetest.Open(t, url)
	databasetest.Put(t, db, "k", "1")
	copied := filepath.Join(t.TempDir(), "copy.db")
	if _, err := sqlite.Backup(t.Context(), url, sqlite.Target{Name: copied}); err != nil {
		t.Fatal(err)
	}
	databasetest.Put(t, db, "k", "2")

	t.Run("refuses an existing backup file", func(t *testing.T) {
		if _, err := sqlite.Backup(t.Context(), url, sqlite.Target{Name: copied}); err == nil || !strings.Contains(err.Error(), "exists already") {
			t.Errorf("Backup = %v", err)
		}
	})
	t.Run("refuses a live store", func(t *testing.T) {
		_, _, err := sqlite.Restore(t.Context(), copied, url, time.Now())
		if err == nil || !strings.Contains(err.Error(), "in use by another process") {
			t.Errorf("Restore = %v", err)
		}
	})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	t.Run("refuses what is no backup", func(t *testing.T) {
		for name, data := range map[string]string{"text": "no database", "empty": ""} {
			bad := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(bad, []byte(data), 0o640); err != nil {
				t.Fatal(err)
			}
			if _, _, err := sqlite.Restore(t.Context(), bad, url, time.Now()); err == nil {
				t.Errorf("Restore of %s succeeded", name)
			}
		}
		if _, _, err := sqlite.Restore(t.Context(), filepath.Join(t.TempDir(), "none"), url, time.Now()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Restore of a missing file = %v", err)
		}
	})
	_, kept, err := sqlite.Restore(t.Context(), copied, url, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	restored := databasetest.Open(t, url)
	if latest, err := restored.Latest(t.Context(), "k"); err != nil || latest.Version != 1 {
		t.Errorf("restored: %v, %v, want version 1", latest, err)
	}
	old := databasetest.Open(t, "sqlite:"+kept)
	if latest, err := old.Latest(t.Context(), "k"); err != nil || latest.Version != 2 {
		t.Errorf("kept: %v, %v, want version 2", latest, err)
	}
}

// TestBackupRefuses: what is no store is not backed up, for a reason, and nothing is left.
func TestBackupRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		statements []string
		want       string
	}{
		"empty":           {nil, "it holds no store"},
		"another program": {[]string{"CREATE TABLE keys (key TEXT PRIMARY KEY)"}, "of another program"},
		"development":     {[]string{"PRAGMA application_id = 0x6b767374", ofDevelopment[0], ofDevelopment[1], ofDevelopment[2]}, sqlite.ErrDevelopment.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			url := databasetest.URL(t)
			path := strings.TrimPrefix(url, "sqlite:")
			if err := os.WriteFile(path, nil, 0o640); err != nil {
				t.Fatal(err)
			}
			rawDB(t, url, c.statements...)
			if _, err := sqlite.Backup(t.Context(), url, sqlite.Target{Name: path + ".backup"}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Backup = %v, want %q", err, c.want)
			}
			if left, _ := filepath.Glob(path + ".*"); left != nil {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}
