//go:build replication

package main_test

import (
	"database/sql"
	bytesof "encoding/binary" // this package declares binary
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"
)

// TestReplicationOfUnknown imitates a kill between the two steps of a commit while
// Litestream has the database open: the write-ahead log has a valid transaction that is
// not in the wal-index. SQLite overwrites it, so the replica must not have it.
func TestReplicationOfUnknown(t *testing.T) {
	r := newReplication(t)
	r.replicate(t)
	p := r.spawn(t)
	load := &replicatedLoad{writes: map[drillPlace]string{}}
	for range 6 { // fewer than the 1,000 pages at which Litestream checkpoints
		load.put(t, p, "key", strings.Repeat("x", 500_000))
	}
	p.kill(t)
	r.restore(t, load.revision)

	appendUnknown(t, r.path)
	// Litestream looks every second, but does not report it.
	time.Sleep(3 * time.Second)
	restored := r.restore(t, load.revision)
	db, err := sql.Open("sqlite3", restored)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var tables int
	if err := db.QueryRow("SELECT count(*) FROM sqlite_master WHERE name = 'unknown'").Scan(&tables); err != nil || tables != 0 {
		t.Errorf("the replica has a transaction that the database does not have (%d), %v", tables, err)
	}
	p = r.spawn(t)
	for range 3 {
		load.put(t, p, "key", strings.Repeat("y", 500_000))
	}
	load.compare(t, r, r.restore(t, load.revision))
}

// appendUnknown appends a transaction of more than 200 pages to the log of the database at
// path, but not to its wal-index.
func appendUnknown(t *testing.T, path string) {
	t.Helper()
	twin := filepath.Join(t.TempDir(), "twin.db")
	index, err := os.ReadFile(path + "-shm")
	if err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(path + suffix)
		if err == nil {
			err = os.WriteFile(twin+suffix, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	db, err := sql.Open("sqlite3", twin)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("PRAGMA wal_autocheckpoint = 0; CREATE TABLE unknown AS SELECT randomblob(1000000)"); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(twin + "-wal") // before Close, which moves it into the file
	if err != nil {
		t.Fatal(err)
	}
	const offsetFrames, headerSize, frameSize = 16, 32, 24 + 4096
	end := headerSize + frameSize*int64(bytesof.NativeEndian.Uint32(index[offsetFrames:]))
	file, err := os.OpenFile(path+"-wal", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if added := log[end:]; len(added) < 200*frameSize {
		t.Fatalf("%d bytes are too few", len(added))
	} else if _, err := file.WriteAt(added, end); err != nil {
		t.Fatal(err)
	}
}
