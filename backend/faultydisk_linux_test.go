package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A faultyDisk is a directory on which a test can make the system calls of a backend fail
// or take long, with internal/diskfault/testdata/diskfault.c between SQLite and the C library.
type faultyDisk struct {
	dir     string // of the database
	shadow  string // what would survive a power loss
	control string
}

// library builds diskfault.c once for all tests.
var library = sync.OnceValues(func() (string, error) {
	dir, err := builds()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "diskfault.so")
	compiler, err := exec.Command("go", "env", "CC").Output()
	if err != nil {
		return "", fmt.Errorf("go env CC: %w", err)
	}
	output, err := exec.Command(strings.TrimSpace(string(compiler)), "-O1", "-shared", "-fPIC", "-o", path,
		filepath.Join("..", "internal", "diskfault", "testdata", "diskfault.c"), "-ldl", "-lpthread").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("compile diskfault.c: %w\n%s", err, output)
	}
	return path, nil
})

func newFaultyDisk(t *testing.T) *faultyDisk {
	t.Helper()
	d := &faultyDisk{dir: t.TempDir(), shadow: t.TempDir(), control: filepath.Join(t.TempDir(), "rules")}
	d.set(t)
	return d
}

func (d *faultyDisk) database() string { return filepath.Join(d.dir, "kv.db") }

// environment returns the environment of a backend on the disk.
func (d *faultyDisk) environment(t *testing.T, more ...string) []string {
	t.Helper()
	preloaded, err := library()
	if err != nil {
		t.Fatal(err)
	}
	env := append(environment(d.database(), "2"), "LD_PRELOAD="+preloaded,
		"DISKFAULT_DIR="+d.dir, "DISKFAULT_CONTROL="+d.control, "DISKFAULT_SHADOW="+d.shadow)
	return append(env, more...)
}

// A fault is a rule for diskfault.c.
type fault struct {
	op     string
	suffix string // "" means every file
	err    syscall.Errno
	delay  int // in milliseconds
	count  int // how many calls fail; 0 means all
	mode   string
}

// set replaces the faults. Without any, the disk works.
func (d *faultyDisk) set(t *testing.T, faults ...fault) {
	t.Helper()
	var rules strings.Builder
	for _, f := range faults {
		if f.suffix == "" {
			f.suffix = "*"
		}
		if f.count == 0 {
			f.count = -1
		}
		if f.mode == "" {
			f.mode = "lose"
		}
		fmt.Fprintln(&rules, f.op, f.suffix, int(f.err), f.delay, f.count, f.mode)
	}
	next := d.control + ".next"
	if err := os.WriteFile(next, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, d.control); err != nil {
		t.Fatal(err)
	}
}

// losePower reduces the files to what was synced. The backend must be dead.
func (d *faultyDisk) losePower(t *testing.T) {
	t.Helper()
	for _, suffix := range []string{"", "-wal", "-journal", "-shm"} {
		name := d.database() + suffix
		shadow := filepath.Join(d.shadow, filepath.Base(name))
		_ = os.Remove(name)
		_ = os.Remove(shadow + ".dirty")
		data, err := os.ReadFile(shadow)
		if os.IsNotExist(err) || suffix == "-shm" {
			continue
		}
		if err == nil {
			err = os.WriteFile(name, data, 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
