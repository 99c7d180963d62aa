package traefik_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A faultyDisk makes system calls of the backend fail or take long, with
// internal/diskfault/testdata/diskfault.c between SQLite and the C library.
type faultyDisk struct{ dir, control, library string }

func newFaultyDisk(t *testing.T) *faultyDisk {
	t.Helper()
	d := &faultyDisk{dir: t.TempDir()}
	beside := t.TempDir()
	d.control, d.library = filepath.Join(beside, "rules"), filepath.Join(beside, "diskfault.so")
	compiler, err := exec.Command("go", "env", "CC").Output()
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command(strings.TrimSpace(string(compiler)), "-O1", "-shared", "-fPIC", "-o", d.library, "internal/diskfault/testdata/diskfault.c", "-ldl", "-lpthread")
	build.Dir = root
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("compile diskfault.c: %v\n%s", err, output)
	}
	d.set(t)
	return d
}

// environment returns the variables for the processes of a stack.
func (d *faultyDisk) environment() []string {
	return []string{
		"LD_PRELOAD=" + d.library, "DISKFAULT_DIR=" + d.dir, "DISKFAULT_CONTROL=" + d.control,
		"KV_DATABASE_URL=sqlite:" + filepath.Join(d.dir, "kv_store.db"),
	}
}

// set replaces the rules, each OP SUFFIX ERRNO DELAY COUNT MODE. Without any, the disk works.
func (d *faultyDisk) set(t *testing.T, rules ...string) {
	t.Helper()
	next := d.control + ".next"
	err := os.WriteFile(next, []byte(strings.Join(append(rules, ""), "\n")), 0o600)
	if err == nil {
		err = os.Rename(next, d.control)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// gets waits until a request gets the given answer.
func gets(t *testing.T, method, path, body string, status int, code string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s %s gets %d %s", method, path, status, code), func() error {
		answer, err := tryRequest(webAddress, method, path, nil, body)
		if err == nil && (answer.status != status || !strings.Contains(answer.body, code)) {
			err = fmt.Errorf("%d %.200s", answer.status, answer.body)
		}
		return err
	})
}

// brokenDisk makes calls to the backend's disk fail under load, and then work again. Writes
// must report what happened, cached reads go on, and the backend must recover by itself. With
// kill, it is killed while its disk is broken.
func brokenDisk(t *testing.T, table *faultTable, rules []string, status int, code string, kill bool) {
	d := newFaultyDisk(t)
	s := newStack(t, d.environment()...)
	load := startTraffic(t, "k")
	var begin time.Time
	for range rounds(1, 5) {
		load.more(t, 200)
		d.set(t, rules...)
		gets(t, http.MethodPut, "/put/other", `{"value":1}`, status, code)
		get(t, "/get/k-0").wantStatus(t, http.StatusOK)
		if status != http.StatusInsufficientStorage {
			gets(t, http.MethodGet, "/health", "", http.StatusServiceUnavailable, "The disk reports errors")
		}
		if kill {
			s.backend.kill(t)
		}
		begin = time.Now()
		d.set(t)
		if kill {
			s.backend.start(t)
		}
		s.waitHealthy(t)
	}
	load.more(t, 200)
	table.survived(t, load, begin)
}

// unreadableDisk makes reads of the disk fail. Uncached reads must get an error that says so,
// and cached ones must work.
func unreadableDisk(t *testing.T, table *faultTable) {
	d := newFaultyDisk(t)
	s := newStack(t, d.environment()...)
	load := startTraffic(t, "k")
	var begin time.Time
	for range rounds(1, 5) {
		load.more(t, 200)
		d.set(t, fmt.Sprintf("read * %d 0 -1 lose", syscall.EIO))
		gets(t, http.MethodGet, "/get/k-0?version=1", "", http.StatusInternalServerError, "store_damaged")
		get(t, "/get/k-0").wantStatus(t, http.StatusOK)
		begin = time.Now()
		d.set(t)
		s.waitHealthy(t)
	}
	load.more(t, 200)
	table.survived(t, load, begin)
}

// slowDisk makes syncs slower and slower, until they hang. The queue must be bounded, reads
// must not wait, and SIGTERM must stop the backend in time.
func slowDisk(t *testing.T, table *faultTable) {
	d := newFaultyDisk(t)
	s := newStack(t, append(d.environment(), "KV_MAX_QUEUED_WRITES=8")...)
	load := startTraffic(t, "k")
	load.more(t, 200)
	d.set(t, "sync * 0 50 -1 lose")
	load.more(t, 32)
	d.set(t, "sync * 0 3600000 -1 lose")
	gets(t, http.MethodPut, "/put/other", `{"value":1}`, http.StatusServiceUnavailable, "overloaded")
	gets(t, http.MethodGet, "/get/k-0", "", http.StatusOK, "")
	get(t, "/get/k-0?version=1").wantStatus(t, http.StatusOK)
	gets(t, http.MethodGet, "/health", "", http.StatusOK, "The disk is slow")
	begin := time.Now()
	d.set(t, "sync * 0 500 -1 lose")
	if code := s.backend.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	d.set(t)
	s.backend.start(t)
	s.waitHealthy(t)
	load.more(t, 200)
	table.survived(t, load, begin)
}
