//go:build compose

package composetest_test

import (
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"
)

// testOperate runs the operator's tasks in the README on the service in containers: a backup while it runs, a restore that is
// refused, a restore and an import after it was stopped, and a start.
func testOperate(t *testing.T, p *project) {
	backup := filepath.Join(t.TempDir(), "a directory", "a backup.db")
	put(t, service, "operate/key", `"backed up"`, 1)
	p.task(t, "backup written and checked: "+backup, "backup", "--", backup)
	p.task(t, "backup written and checked: data/backups/new.db", "backup", "--", "data/backups/new.db")
	for _, name := range []string{backup, filepath.Join(p.directory, "data/backups/new.db")} {
		expectOwner(t, name, os.Getuid())
	}
	put(t, service, "operate/key", `"after the backup"`, 2)
	p.task(t, "in use by another process", "!restore", "--", backup)
	expectValue(t, service, "operate/key", `"after the backup"`, 2)
	p.task(t, "the database is sound: sqlite:data/kv_store.db", "verify")
	p.task(t, "the database is sound: "+backup, "verify", "--", backup)
	p.task(t, "bytes were returned to the disk", "compact")
	old := predecessor(t)
	p.task(t, "in use by another process", "!import", "--", old)

	p.compose(t, "stop")
	p.task(t, "backup written and checked", "backup", "--", "data/backups/stopped.db")
	missing := filepath.Join(t.TempDir(), "missing.db")
	p.task(t, missing+" does not exist", "!restore", "--", missing)
	if _, err := os.Lstat(missing); err == nil {
		t.Error("a directory was created instead of the missing backup")
	}
	if err := os.Chmod(backup, 0o600); err != nil { // not readable for the service itself
		t.Fatal(err)
	}
	p.task(t, "restored "+backup, "restore", "--", backup)
	p.task(t, "1 versions of 1 keys imported", "import", "--", old)
	// The service's user can use it without root.
	p.compose(t, "run", "--rm", "--no-deps", "-T", "backend", "check")
	p.compose(t, "run", "--rm", "--no-deps", "-T", "operate", "compact")
	p.compose(t, "up", "-d")
	waitHealthy(t, service)
	expectValue(t, service, "operate/key", `"backed up"`, 1)
	expectValue(t, service, "imported", `"old"`, 1)
	put(t, service, "operate/key", `"after the restore"`, 2)
	files, err := filepath.Glob(filepath.Join(p.directory, "data", "kv_store.db*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		expectOwner(t, name, 65532)
	}
}

// task runs a task, which must succeed, or fail if its name begins with "!". Its output must contain says.
func (p *project) task(t *testing.T, says string, arguments ...string) {
	t.Helper()
	name, fails := strings.CutPrefix(arguments[0], "!")
	arguments[0] = name
	if p.taskProgram == "" { // "go tool" would check whether it is up to date on every run
		command := exec.CommandContext(t.Context(), "go", "tool", "-n", "task")
		command.Dir, command.Env = p.directory, p.environment
		found, err := command.Output()
		if err != nil {
			t.Fatalf("go tool -n task: %v", err)
		}
		p.taskProgram = strings.TrimSpace(string(found))
	}
	command := exec.CommandContext(t.Context(), p.taskProgram, arguments...)
	command.Dir, command.Env = p.directory, p.environment
	start := time.Now()
	out, err := command.CombinedOutput()
	t.Logf("task %s (%v)\n%s", strings.Join(arguments, " "), time.Since(start).Round(100*time.Millisecond), out)
	if (err != nil) != fails || !strings.Contains(string(out), says) {
		t.Errorf("task %s: %v, want failure = %v, and %q in the output", strings.Join(arguments, " "), err, fails, says)
	}
}

func expectOwner(t *testing.T, name string, want int) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Error(err)
		return
	}
	if got := info.Sys().(*syscall.Stat_t).Uid; int(got) != want {
		t.Errorf("%s belongs to %d, want %d", name, got, want)
	}
}

// predecessor makes a database of the Python service with one key.
func predecessor(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "old.db")
	db, err := sql.Open("sqlite3", name)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{
		`CREATE TABLE keys (key TEXT PRIMARY KEY, created_at REAL, updated_at REAL)`,
		`CREATE TABLE "values" (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, value JSON, version INTEGER, timestamp REAL)`,
		`INSERT INTO keys VALUES ('imported', 1700000000, 1700000000)`,
		`INSERT INTO "values" (key, value, version, timestamp) VALUES ('imported', '"old"', 1, 1700000000)`,
	} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	return name
}
