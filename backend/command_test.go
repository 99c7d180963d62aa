package main_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3" // the driver

	main "kvstore/backend"
	"kvstore/backend/database/sqlite"
	"kvstore/internal/settings"
)

// runCommand runs the program with a command and returns what it printed.
func runCommand(t *testing.T, env map[string]string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := main.Run(t.Context(), args, func(name string) string { return env[name] }, &out)
	return out.String(), err
}

// TestCompactCommand compacts through a running service, and then without it.
func TestCompactCommand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kv.db")
	env := map[string]string{"KV_DATABASE_URL": "sqlite:" + path}
	value := `{"value":"` + strings.Repeat("x", 100_000) + `"}`
	// pruned returns a program whose database has a lot of free space.
	pruned := func() *program {
		p := boot(t, env)
		for range 40 {
			if status, body := p.request(t, "PUT", "/put/k", value); status != 200 {
				t.Fatal(status, body)
			}
		}
		p.stop()
		if err := <-p.result; err != nil {
			t.Fatal(err)
		}
		p = boot(t, map[string]string{"KV_DATABASE_URL": env["KV_DATABASE_URL"], "KV_MAX_VERSIONS": "1"})
		for deadline := time.Now().Add(10 * time.Second); ; {
			if _, body := p.request(t, "GET", "/db/stats", ""); strings.Contains(body, `"total_versions":1,`) {
				return p
			} else if time.Now().After(deadline) {
				t.Fatal(body)
			}
		}
	}
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	p := pruned()
	running := map[string]string{"KV_DATABASE_URL": env["KV_DATABASE_URL"], "KV_BACKEND_ADDR": strings.TrimPrefix(p.url, "http://")}
	out, err := runCommand(t, running, "compact")
	if err != nil || !strings.Contains(out, "asking the service at 127.0.0.1:") || !strings.Contains(out, "were returned to the disk") {
		t.Errorf("%v\n%s", err, out)
	}
	if size() > 1<<20 {
		t.Errorf("the file has %d bytes after the compaction, with one version of 100,000", size())
	}
	p.stop()
	if err := <-p.result; err != nil {
		t.Fatal(err)
	}
	p = pruned()
	p.stop()
	if err := <-p.result; err != nil {
		t.Fatal(err)
	}
	if size() < 1<<20 {
		t.Fatalf("the file has only %d bytes", size())
	}
	out, err = runCommand(t, env, "compact")
	if err != nil || strings.Contains(out, "asking") || !strings.Contains(out, "bytes were returned to the disk") {
		t.Errorf("%v\n%s", err, out)
	}
	if size() > 1<<20 {
		t.Errorf("the file has %d bytes after the compaction without the service", size())
	}
	t.Run("the service is not at the address", func(t *testing.T) {
		p := boot(t, env)
		defer p.stop()
		running["KV_BACKEND_ADDR"] = "127.0.0.1:1"
		if out, err := runCommand(t, running, "compact"); err == nil || !strings.Contains(err.Error(), "the service at 127.0.0.1:1 (KV_BACKEND_ADDR)") {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// TestImportCommand checks that import fails while the service runs, and that the service
// has the imported versions afterwards.
func TestImportCommand(t *testing.T) {
	old := filepath.Join(t.TempDir(), "old.db")
	db, err := sql.Open("sqlite3", old)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for i, statement := range []string{
		"CREATE TABLE keys (key TEXT PRIMARY KEY, created_at REAL, updated_at REAL)",
		`CREATE TABLE "values" (id INTEGER PRIMARY KEY, key TEXT, value JSON, version INTEGER, timestamp REAL)`,
		"INSERT INTO keys VALUES ('k', 1, 2)",
		`INSERT INTO "values" (key, value, version, timestamp) VALUES ('k', '"\u00fc"', 1, 1700000000.5), ('k', '{"a": 1}', 2, 1700000001.25)`,
		`INSERT INTO "values" (key, value, version, timestamp) VALUES ('gap', '1', 2, 1700000000.5)`,
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(i, err)
		}
	}
	env := map[string]string{"KV_DATABASE_URL": "sqlite:" + filepath.Join(t.TempDir(), "kv.db")}
	p := boot(t, env)
	if _, err := runCommand(t, env, "import", old); !errors.Is(err, sqlite.ErrInUse) || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("import into a running service: %v", err)
	}
	p.stop()
	if err := <-p.result; err != nil {
		t.Fatal(err)
	}
	const counts = `%s%s; %s keys were imported before; skipped: 1 keys, 0 versions of other keys; 0 times changed` + "\n"
	const skipped = "key \"gap\" is skipped: its versions are not numbered 1, 2, 3: found 2 instead of 1\n"
	for _, step := range []struct{ flag, want string }{
		{"--dry-run", fmt.Sprintf(counts, skipped, "2 versions of 1 keys would be imported (dry run)", "0")},
		{"--dry-run=false", fmt.Sprintf(counts, skipped, "2 versions of 1 keys imported", "0")},
		{"--dry-run=false", fmt.Sprintf(counts, skipped, "0 versions of 0 keys imported", "1")},
	} {
		if out, err := runCommand(t, env, "import", old, step.flag); err != nil || out != step.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", step.flag, err, out, step.want)
		}
	}
	var mistake *settings.Error
	if _, err := runCommand(t, env, "import"); !errors.As(err, &mistake) || !strings.Contains(err.Error(), "backend import FILE") {
		t.Errorf("import without a file: %v", err)
	}
	p = boot(t, env)
	for path, want := range map[string]string{
		"/get/k":           `"value":{"a": 1},"version":2,"timestamp":1700000001.250000,"revision":2`,
		"/get/k?version=1": `"value":"\u00fc","version":1,"timestamp":1700000000.500000,"revision":1`,
	} {
		if status, body := p.request(t, "GET", path, ""); status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, body := p.request(t, "PUT", "/put/k", `{"value":3}`); status != 200 || !strings.Contains(body, `"version":3`) {
		t.Error(status, body)
	}
}
