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

// A faultyDisk is what stands between the backend's SQLite and the C library, and fails
// or waits when the test says so: internal/diskfault/testdata/diskfault.c.
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

// environment is for the processes of a stack.
func (d *faultyDisk) environment() []string {
	return []string{
		"LD_PRELOAD=" + d.library, "DISKFAULT_DIR=" + d.dir, "DISKFAULT_CONTROL=" + d.control,
		"KV_DATABASE_URL=sqlite:" + filepath.Join(d.dir, "kv_store.db"),
	}
}

// set replaces the rules, each OP SUFFIX ERRNO DELAY COUNT MODE; none is a disk that works.
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

// gets waits until a request gets the answer that a fault has.
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

// brokenDisk lets calls of the backend's disk fail under load, all at once, and then lets
// them work again: writes say what happened, cached reads go on, and it recovers by itself.
// With kill, the backend is killed while its disk is broken.
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

// unreadableDisk: what is not in the cache is an error that says so, what is in it is
// served.
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

// slowDisk: syncs take longer and longer and then do not come back at all; the queue is
// bounded, reads do not wait, and SIGTERM ends the backend in time.
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
