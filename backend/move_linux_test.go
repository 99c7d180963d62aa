package main_test

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/postgres/postgrestest"
	"kvstore/backend/kv"
)

// TestCopyWithoutRoom: a backup or a move of a store on PostgreSQL for which there is no room is refused
// with the numbers, and leaves nothing.
func TestCopyWithoutRoom(t *testing.T) {
	url, d := postgrestest.Database(t), newDisk(t, "1m")
	p := boot(t, map[string]string{"KV_DATABASE_URL": url})
	for i := range 3 {
		if status, body := p.request(t, "PUT", "/put/k"+strconv.Itoa(i), `{"value":"`+strings.Repeat("x", 500_000)+`"}`); status != 200 {
			t.Fatal(status, body)
		}
	}
	t.Setenv("TMPDIR", d.dir)
	const needed, free = "bytes are needed", " bytes free in "
	status, body := p.request(t, "GET", "/db/backup", "")
	if status != http.StatusInsufficientStorage || !strings.Contains(body, needed) || !strings.Contains(body, free+d.dir) {
		t.Errorf("GET /db/backup: %d %s", status, body)
	}
	t.Setenv("TMPDIR", filepath.Join(d.dir, "none"))
	if status, body := p.request(t, "GET", "/db/backup", ""); status != http.StatusServiceUnavailable || !strings.Contains(body, "TMPDIR") {
		t.Errorf("GET /db/backup without a directory: %d %s", status, body)
	}
	p.stop()
	if err := <-p.result; err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"backup", filepath.Join(d.dir, "backup.db")}, {"move", "sqlite:" + filepath.Join(d.dir, "kv.db")}} {
		if out, err := runCommand(t, map[string]string{"KV_DATABASE_URL": url}, args...); err == nil || !strings.Contains(err.Error(), needed) {
			t.Errorf("%s: %v\n%s", args[0], err, out)
		}
	}
	if left, err := filepath.Glob(filepath.Join(d.dir, "*")); err != nil || len(left) != 1 || left[0] != filepath.Join(d.dir, "kv.db.lock") {
		t.Errorf("left are %q, %v", left, err)
	}
}

// killed starts the program with a command, and kills it when begun says that it is at its work.
func killed(t *testing.T, url string, begun func() bool, args ...string) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = []string{"KV_DATABASE_URL=" + url}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); !begun(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("it has not begun")
			break
		}
	}
	if err := errors.Join(cmd.Process.Kill(), cmd.Wait()); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("%s was not killed at its work: %v", args[0], err)
	}
}

// TestKilledMove: a restore and a move that are killed leave an empty database, or none, and work when they
// are repeated.
func TestKilledMove(t *testing.T) {
	source, server := databasetest.FileURL(t), postgrestest.Database(t)
	db := databasetest.Open(t, source)
	entries := make([]kv.Entry, 20_000)
	for i := range entries {
		entries[i] = kv.Entry{Key: strconv.Itoa(i % 1000), Value: []byte(strconv.Itoa(i))}
	}
	databasetest.Write(t, db, entries...)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	raw := databasetest.Raw(t, server)
	inserting := func() (yes bool) {
		err := raw.QueryRowContext(t.Context(), `SELECT count(*) > 0 FROM pg_stat_activity
			WHERE datname = current_database() AND query LIKE 'INSERT INTO versions%'`).Scan(&yes)
		return err == nil && yes
	}
	backup := strings.TrimPrefix(source, "sqlite:")
	killed(t, server, inserting, "restore", backup)
	killed(t, source, inserting, "move", server)
	var left int64
	err := raw.QueryRowContext(t.Context(), "SELECT (SELECT count(*) FROM versions) + (SELECT count(*) FROM keys) + (SELECT revision FROM store)").Scan(&left)
	if err != nil || left != 0 {
		t.Errorf("after the kills there are %d rows and revisions, %v", left, err)
	}
	if out, err := runCommand(t, map[string]string{"KV_DATABASE_URL": source}, "move", server); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir := t.TempDir()
	writing := func() bool {
		info, err := os.Stat(filepath.Join(dir, "kv.db.partial"))
		return err == nil && info.Size() > 100_000
	}
	back := "sqlite:" + filepath.Join(dir, "kv.db")
	killed(t, server, writing, "move", back)
	if _, err := os.Stat(filepath.Join(dir, "kv.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the kill: %v", err)
	}
	out, err := runCommand(t, map[string]string{"KV_DATABASE_URL": server}, "move", back)
	if err != nil || !strings.Contains(out, "revision 20000: 1000 keys, 20000 versions") || writing() {
		t.Errorf("%v\n%s", err, out)
	}
}
