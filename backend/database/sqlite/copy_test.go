package sqlite_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/kv"
)

// received writes a copy to a file and opens that.
func received(t *testing.T, made *database.Copy) *database.DB {
	t.Helper()
	name := filepath.Join(t.TempDir(), "received.db")
	data, err := io.ReadAll(made.File)
	if err != nil || int64(len(data)) != made.Bytes || sha256.Sum256(data) != made.SHA256 {
		t.Fatalf("%d bytes, %v; the copy says %d and another digest or not", len(data), err, made.Bytes)
	}
	if err := os.WriteFile(name, data, 0o640); err != nil {
		t.Fatal(err)
	}
	found, err := sqlite.Verify(t.Context(), name)
	if err != nil || found.Totals != made.Totals || found.StoreID != made.StoreID {
		t.Fatalf("the copy has %+v (%v) and says %+v", found, err, made.Summary)
	}
	return databasetest.Open(t, "sqlite:"+name)
}

// TestCopyUnderWrites: a copy is one moment, not before the call, and the file that it
// is made in is gone.
func TestCopyUnderWrites(t *testing.T) {
	url := databasetest.URL(t)
	db := databasetest.Open(t, url)
	filler := strconv.Quote(strings.Repeat("x", 900_000))
	for i := range 12 { // so that it takes several steps
		databasetest.Put(t, db, "filler"+strconv.Itoa(i), filler)
	}
	databasetest.Put(t, db, "k", "1")
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var mu sync.Mutex
	last := 1
	wg.Go(func() {
		for n := 2; ; n++ {
			select {
			case <-stop:
				return
			default:
				databasetest.Put(t, db, "k", strconv.Itoa(n))
				mu.Lock()
				last = n
				mu.Unlock()
			}
		}
	})
	defer wg.Wait()
	defer close(stop)
	for range 5 {
		mu.Lock()
		before := last
		mu.Unlock()
		made, err := db.Copy(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Copy(t.Context()); !errors.Is(err, kv.ErrCopying) {
			t.Errorf("a second Copy = %v, want ErrCopying", err)
		}
		copied := received(t, made)
		if err := made.Close(); err != nil {
			t.Error(err)
		}
		latest, err := copied.Latest(t.Context(), "k")
		if err != nil || latest.Version < int64(before) || string(latest.Value) != strconv.FormatInt(latest.Version, 10) || made.Revision != latest.Version+12 {
			t.Errorf("the copy at revision %d has version %d with %s (%v), and %d was written before", made.Revision, latest.Version, latest.Value, err, before)
		}
	}
	path, _ := sqlite.ParseURL(url)
	if left, _ := filepath.Glob(path + ".copy*"); left != nil {
		t.Errorf("left behind: %q", left)
	}
}

// TestCopyHoldsUpNoScrub: values are destroyed, and taken off the disk at once, in the
// middle of a copy; the copy has nothing of them either.
func TestCopyHoldsUpNoScrub(t *testing.T) {
	url := databasetest.URL(t)
	db := databasetest.Open(t, url)
	secret := strings.Repeat("secret", 40)
	databasetest.Put(t, db, "early", strconv.Quote(secret+"early")) // in a page that is copied first
	filler := strconv.Quote(strings.Repeat("x", 900_000))
	for i := range 5 {
		databasetest.Put(t, db, "filler"+strconv.Itoa(i), filler)
	}
	databasetest.Put(t, db, "late", strconv.Quote(secret+"late"))
	steps := 0
	made, err := sqlite.CopyWith(db, t.Context(), func() {
		if steps++; steps != 2 {
			return
		}
		for _, key := range []string{"early", "late"} {
			destroy(t, db, key, 1)
		}
		start := time.Now()
		if _, err := db.Scrub(t.Context()); err != nil {
			t.Errorf("Scrub in the middle of a copy: %v after %s", err, time.Since(start))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer made.File.Close()
	if steps < 4 {
		t.Fatalf("the copy took %d steps", steps)
	}
	data, err := io.ReadAll(made.File)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("secretsecret")) {
		t.Error("the copy has a value that was destroyed before it was complete")
	}
}

// TestCopyFailsCleanly: a copy that is given up leaves nothing, and the next works. What
// a killed process left is removed by Open.
func TestCopyFailsCleanly(t *testing.T) {
	url := databasetest.URL(t)
	path, _ := sqlite.ParseURL(url)
	if err := os.WriteFile(path+".copy", []byte("left by a process that was killed"), 0o640); err != nil {
		t.Fatal(err)
	}
	db := databasetest.Open(t, url)
	if _, err := os.Stat(path + ".copy"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the start the copy of a killed process is still there: %v", err)
	}
	databasetest.Put(t, db, "k", strconv.Quote(strings.Repeat("x", 2_000_000)))
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := sqlite.CopyWith(db, ctx, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("Copy = %v, want Canceled", err)
	}
	if left, _ := filepath.Glob(path + ".copy*"); left != nil {
		t.Errorf("left behind: %q", left)
	}
	databasetest.Put(t, db, "k", "2")
	made, err := db.Copy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer made.Close()
	if latest, err := received(t, made).Latest(t.Context(), "k"); err != nil || latest.Version != 2 {
		t.Errorf("%+v, %v", latest, err)
	}
}

// destroy erases the value of a version.
func destroy(t *testing.T, db *database.DB, key string, version int64) {
	t.Helper()
	err := db.Update(t.Context(), func(tx *database.Tx) error {
		before := tx.Totals.Versions
		_, err := tx.Destroy(key, []int64{version})
		if n := before - tx.Totals.Versions; err == nil && n != 1 {
			t.Errorf("%d versions of %s were destroyed, want 1", n, key)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
