package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestInterruptedWhileReading interrupts commands, and a start, that are reading a file.
// They must say so, not call the file damaged, and change nothing.
func TestInterruptedWhileReading(t *testing.T) {
	d := newFaultyDisk(t)
	env := d.environment(t, "GORACE=atexit_sleep_ms=0")
	stored, elsewhere := newStoreAndBackup(t, env, 10)
	backup := filepath.Join(d.dir, "backup.db") // where reading can be made slow
	if err := os.Rename(elsewhere, backup); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args  []string
		reads string // the file whose reading takes minutes
	}{
		{[]string{"check"}, "kv.db"},
		{[]string{"check", backup}, "backup.db"},
		{[]string{"backup", filepath.Join(d.dir, "another.db")}, "kv.db"},
		{[]string{"restore", backup}, "backup.db"},
		{[]string{"restore", backup}, "kv.db.partial"},
	} {
		t.Run(c.args[0]+" reading "+c.reads, func(t *testing.T) {
			d.set(t, fault{op: "read", suffix: c.reads, delay: 100})
			out, code := interrupted(t, env, filepath.Join(d.dir, c.reads), syscall.SIGINT, c.args...)
			if want := "backend: " + c.args[0] + ": interrupted; nothing was changed\n"; out != want || code != 1 {
				t.Errorf("exit code %d, %s\nwant %s", code, out, want)
			}
			onlyThese(t, d.dir, "backup.db", "kv.db", "kv.db.lock")
		})
	}
	t.Run("start", func(t *testing.T) {
		d.set(t, fault{op: "read", suffix: "kv.db", delay: 100})
		out, code := interrupted(t, env, d.database(), syscall.SIGTERM)
		if code != 0 || !strings.Contains(out, "stopped before the database was open") || strings.Contains(out, "damaged") {
			t.Errorf("exit code %d, %s", code, out)
		}
	})
	d.set(t)
	p := spawn(t, env)
	stored.verify(t, p)
}

// interrupted runs the program, sends it a signal when it has a file open, and returns its
// output and exit code.
func interrupted(t *testing.T, env []string, file string, signal os.Signal, args ...string) (out string, code int) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	command := exec.Command(path, args...)
	command.Env, command.Stdout, command.Stderr = env, &log, &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer command.Process.Kill()
	for deadline := time.Now().Add(patience); !isOpen(command.Process.Pid, file); {
		if time.Now().After(deadline) {
			t.Fatalf("%s is not opened", file)
		}
	}
	if err := command.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait()
	return log.String(), command.ProcessState.ExitCode()
}

// isOpen reports whether a process has a file open.
func isOpen(pid int, file string) bool {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		if name, err := os.Readlink(link); err == nil && name == file {
			return true
		}
	}
	return false
}
