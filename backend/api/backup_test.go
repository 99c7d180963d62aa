package api_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"kvstore/backend/database/sqlite"
)

// TestBackup tests that a backup is a whole database, as its headers describe it.
func TestBackup(t *testing.T) {
	s := start(t)
	for _, request := range [][3]string{
		{"PUT", "/put/a", `{"value":1}`}, {"PUT", "/put/a", `{"value":2}`}, {"PUT", "/put/b", `{"value":3}`}, {"DELETE", "/delete/b", ""},
	} {
		s.do(t, request[0], request[1], request[2])
	}
	got := s.do(t, "GET", "/db/backup", "")
	digest := sha256.Sum256([]byte(got.body))
	for name, want := range map[string]string{
		"Content-Type": "application/vnd.sqlite3", "Content-Length": fmt.Sprint(len(got.body)),
		"X-Kv-Revision": "4", "X-Kv-Keys": "1", "X-Kv-Versions": "4", "X-Kv-Store": s.store.ID(), "Cache-Control": "no-store",
		"Repr-Digest": "sha-256=:" + base64.StdEncoding.EncodeToString(digest[:]) + ":",
	} {
		if got.header.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, got.header.Get(name), want)
		}
	}
	name := regexp.MustCompile(`^attachment; filename="kv_store-\d{8}T\d{6}Z-r4\.db"$`)
	if text := got.header.Get("Content-Disposition"); !name.MatchString(text) {
		t.Error(text)
	}
	file := filepath.Join(t.TempDir(), "backup.db")
	if err := os.WriteFile(file, []byte(got.body), 0o640); err != nil {
		t.Fatal(err)
	}
	if found, err := sqlite.Verify(t.Context(), file); err != nil || found.Revision != 4 || found.Keys != 1 || found.Versions != 4 {
		t.Errorf("the backup has %+v, %v", found, err)
	}
	head := s.do(t, "HEAD", "/db/backup", "")
	if head.status != 200 || head.header.Get("X-KV-Revision") != "4" || head.header.Get("Repr-Digest") != "" {
		t.Errorf("HEAD: %d %v", head.status, head.header)
	}
	if got := s.do(t, "POST", "/db/backup", ""); got.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", got.status)
	}
}

// TestBackupOneAtATime tests that a second backup is refused until the first client has gone.
func TestBackupOneAtATime(t *testing.T) {
	s := start(t)
	held, err := s.db.Copy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := s.do(t, "GET", "/db/backup", "")
	if fields := got.problem(t); got.status != 503 || fields["code"] != "backup_running" || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %v", got.status, got.body)
	}
	if !strings.Contains(got.body, "one at a time") {
		t.Error(got.body)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := s.do(t, "GET", "/db/backup", ""); got.status != 200 {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
}
