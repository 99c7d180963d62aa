package main_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// refusedStart runs the program, which must exit with code 1, and returns its output.
func refusedStart(t *testing.T, env []string) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, path)
	command.Env = append(slices.Clip(env), "GORACE=atexit_sleep_ms=0")
	out, err := command.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the start ended with %v, want the exit code 1\n%s", err, out)
	}
	return string(out)
}

// overwrite writes bytes into a file.
func overwrite(t *testing.T, name string, offset int64, data []byte) {
	t.Helper()
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(data, offset); err != nil {
		t.Fatal(err)
	}
}

// newStore returns a stopped store with 300 keys of 2,000 bytes.
func newStore(t *testing.T) (path string, env []string, stored acknowledged) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "kv.db")
	env = environment(path, "1")
	p, stored := spawn(t, env), acknowledged{}
	for i := range 300 {
		if stored.put(t, p, fmt.Sprintf("key%03d", i), 2_000) != http.StatusOK {
			t.Fatal("a write was refused")
		}
	}
	p.cmd.Process.Signal(os.Interrupt)
	<-p.ended
	return path, env, stored
}

// TestDamageAtStart checks that the program refuses to start on a file with a damaged page
// or a truncated file, says why and does not change it, and that restore refuses them too.
func TestDamageAtStart(t *testing.T) {
	path, env, _ := newStore(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	ruined := append([]byte(nil), whole...)
	for i := range 40 { // destroys every tenth page
		copy(ruined[(5+10*i)*page%len(ruined):], strings.Repeat("\xee", 64))
	}
	for name, data := range map[string][]byte{"pages": ruined, "cut": whole[:len(whole)/2/page*page], "cut in a page": whole[:len(whole)/2+100]} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, data, 0o640); err != nil {
				t.Fatal(err)
			}
			if out := refusedStart(t, env); !strings.Contains(out, "the database file is damaged") {
				t.Error(out)
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != string(data) {
				t.Errorf("the refused file was changed, %v", err)
			}
			file := filepath.Join(t.TempDir(), "bad.db")
			if err := os.WriteFile(file, data, 0o640); err != nil {
				t.Fatal(err)
			}
			target := filepath.Join(t.TempDir(), "kv.db")
			out, err := runCommand(t, map[string]string{"KV_DATABASE_URL": "sqlite:" + target}, "restore", file)
			if err == nil || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("restore: %v\n%s", err, out)
			}
			if _, err := os.Stat(target); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the refused restore left a database: %v", err)
			}
		})
	}
}

// TestDamageWhileRunning damages a page of a running service. Reads of its rows must fail
// with 500 store_damaged, and all others must work.
func TestDamageWhileRunning(t *testing.T) {
	path, env, stored := newStore(t)
	p := spawn(t, env)
	p.faulty = true
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	at := strings.Index(string(data), stored["key150"])
	if at < 0 {
		t.Fatal("the value of key150 is not in the file")
	}
	overwrite(t, path, int64(at/page*page), []byte(strings.Repeat("\xee", 64)))
	damaged := 0
	for key, value := range stored {
		status, body, err := p.exchange(t.Context(), "GET", "/get/"+key, "")
		switch {
		case err != nil:
			t.Fatal(err)
		case status == http.StatusInternalServerError && strings.Contains(string(body), `"code":"store_damaged"`):
			damaged++
		case status != http.StatusOK || !strings.Contains(string(body), strconv.Quote(value)):
			t.Errorf("%s: %d %.200s", key, status, body)
		}
	}
	if damaged == 0 || damaged > 4 {
		t.Errorf("%d of %d keys are damaged, want those of one page", damaged, len(stored))
	}
	if out := p.command(t, false, "check"); !strings.Contains(out, "damaged") {
		t.Error(out)
	}
	if out := p.command(t, false, "backup", filepath.Join(t.TempDir(), "b.db")); !strings.Contains(out, "damaged") {
		t.Error(out)
	}
}

// TestDamagedLog checks the log of a killed process. SQLite reads it up to the first
// invalid frame, so the store is as it was at an earlier revision, without partial writes.
func TestDamagedLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kv.db")
	env := environment(path, "1")
	p, stored := spawn(t, env), acknowledged{}
	for i := range 100 {
		stored.put(t, p, fmt.Sprintf("key%03d", i), 2_000)
	}
	p.kill(t)
	info, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, path+"-wal", info.Size()/2, []byte("damage"))
	p = spawn(t, env)
	revision := p.revision(t)
	if revision < 1 || revision >= 100 {
		t.Errorf("the store is at revision %d", revision)
	}
	for i := range int64(100) {
		key := fmt.Sprintf("key%03d", i)
		status, body, err := p.exchange(t.Context(), "GET", "/get/"+key, "")
		if i < revision && (err != nil || status != http.StatusOK || !strings.Contains(string(body), strconv.Quote(stored[key]))) || i >= revision && status != http.StatusNotFound {
			t.Errorf("%s at revision %d: %d %.200s, %v", key, revision, status, body, err)
		}
	}
	p.check(t)
}

// TestReplacedFile renames the database of a running service. Writes would be lost when
// the process ends, so the service refuses them and reports that it is not healthy. Reads
// use the open file, and never the other one.
func TestReplacedFile(t *testing.T) {
	path, env, stored := newStore(t)
	p := spawn(t, env)
	p.faulty = true
	stored.verify(t, p)
	copied := path + ".copied"
	from, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.Create(copied)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil || to.Close() != nil {
		t.Fatal(err)
	}
	aside := path + ".aside"
	if err := os.Rename(path, aside); err != nil {
		t.Fatal(err)
	}
	for _, replaced := range []bool{false, true} {
		if replaced {
			if err := os.Rename(copied, path); err != nil {
				t.Fatal(err)
			}
		}
		status, body, err := p.exchange(t.Context(), "PUT", "/put/k", `{"value":1}`)
		if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(string(body), "moved, removed or replaced while the service runs") {
			t.Errorf("PUT: %d %s, %v", status, body, err)
		}
		p.wantHealth(t, http.StatusServiceUnavailable, "unhealthy")
		for key, value := range stored { // reads use the open file
			status, body, err := p.exchange(t.Context(), "GET", "/get/"+key, "")
			if err != nil || status != http.StatusServiceUnavailable && (status != http.StatusOK || !strings.Contains(string(body), strconv.Quote(value))) {
				t.Errorf("GET %s: %d %.200s, %v", key, status, body, err)
			}
		}
	}
	if err := os.Rename(aside, path); err != nil { // as it was
		t.Fatal(err)
	}
	p.wantHealth(t, http.StatusOK, "ok")
	if stored.put(t, p, "again", 100) != http.StatusOK {
		t.Error("a write was refused after the file was back")
	}
}
