package main_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBackupCommand backs up a running service, a stopped one, and one whose database is
// elsewhere, also over an existing file.
func TestBackupCommand(t *testing.T) {
	dir := t.TempDir()
	env := map[string]string{"KV_DATABASE_URL": "sqlite:" + filepath.Join(dir, "kv.db")}
	p := boot(t, env)
	p.request(t, "PUT", "/put/k", `{"value":1}`)
	p.request(t, "PUT", "/put/k", `{"value":2}`)
	env["KV_BACKEND_ADDR"] = strings.TrimPrefix(p.url, "http://")
	try := func(name string, env map[string]string, wants []string, args ...string) {
		t.Helper()
		out, err := runCommand(t, env, args...)
		if err != nil {
			out += err.Error()
		}
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("%s: it lacks %q:\n%s", name, want, out)
			}
		}
	}
	file := filepath.Join(dir, "new", "backup.db")
	whole := []string{"backup written and checked: ", " at revision 2: 1 keys, 2 versions, ", " bytes, sha256 "}
	asked := "asking the service at " + env["KV_BACKEND_ADDR"] + " for the backup"
	try("running", env, append(whole, asked), "backup", file)
	try("exists", env, []string{"exists already", "--force"}, "backup", file)
	try("forced", env, append(whole, asked), "backup", file, "--force")
	away := map[string]string{"KV_DATABASE_URL": "sqlite:" + filepath.Join(dir, "none.db"), "KV_BACKEND_ADDR": env["KV_BACKEND_ADDR"]}
	try("elsewhere", away, append(whole, asked), "backup", filepath.Join(dir, "2.db"))
	try("live", env, []string{"in use by another process (pid "}, "restore", file)
	try("check", env, []string{"the database is sound", " at revision 2: 1 keys, 2 versions"}, "check")

	p.stop()
	if err := <-p.result; err != nil {
		t.Fatal(err)
	}
	try("nowhere", away, []string{"none.db", "no service answers at"}, "backup", filepath.Join(dir, "3.db"))
	try("stopped", env, whole, "backup", filepath.Join(dir, "4.db"))
	other := boot(t, map[string]string{"KV_DATABASE_URL": "sqlite:" + filepath.Join(dir, "other.db")})
	env["KV_BACKEND_ADDR"] = strings.TrimPrefix(other.url, "http://")
	try("another store answers", env, whole, "backup", filepath.Join(dir, "5.db"))
	try("restore", env, []string{"is kept as ", "restored ", whole[1]}, "restore", file)
	if left, _ := filepath.Glob(filepath.Join(dir, "*.partial*")); left != nil {
		t.Errorf("left behind: %q", left)
	}
	if err := os.WriteFile(filepath.Join(dir, "kv.db.restoring"), nil, 0o640); err != nil {
		t.Fatal(err)
	}
	try("after an interrupted restore", env, []string{"a restore was interrupted", "repeat it"}, "--backend-addr=127.0.0.1:0")
	try("repeated", env, []string{"is kept as ", "restored "}, "restore", file)
	again := boot(t, env)
	if status, body := again.request(t, "GET", "/get/k", ""); status != 200 || !strings.Contains(body, `"value":2,"version":2`) {
		t.Error(status, body)
	}
}

// TestBadDownload checks that a download becomes a backup only if it arrives intact.
func TestBadDownload(t *testing.T) {
	dir := t.TempDir()
	text := []byte("no database")
	sum := sha256.Sum256(text)
	digest := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
	for name, c := range map[string]struct {
		digest, length, want string
		status               int
	}{
		"cut short":   {digest, "100", "after 11 of 100 bytes", 200},
		"other bytes": {strings.Replace(digest, ":", ":A", 1)[:len(digest)-1] + ":", "11", "digest", 200},
		"no digest":   {"", "11", "has no digest", 200},
		"no database": {digest, "11", "damaged or cannot be read", 200},
		"refused":     {digest, "11", "507 Insufficient Storage", 507},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if c.digest != "" {
					w.Header().Set("Repr-Digest", c.digest)
				}
				w.Header().Set("Content-Length", c.length)
				w.WriteHeader(c.status)
				w.Write(text)
			}))
			defer server.Close()
			file := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
			out, err := runCommand(t, map[string]string{
				"KV_DATABASE_URL": "sqlite:" + filepath.Join(dir, "none.db"), "KV_BACKEND_ADDR": strings.TrimPrefix(server.URL, "http://"),
			}, "backup", file)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q\n%s", err, c.want, out)
			}
			if left, _ := filepath.Glob(file + "*"); left != nil {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}
