package main_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kvstore/backend/database/sqlite"
)

// A fillingContext calls a function at the n-th check for its end, which is in the middle of
// a function that checks often.
type fillingContext struct {
	context.Context
	left atomic.Int64
	fill func()
}

func (c *fillingContext) Err() error {
	if c.left.Add(-1) == 0 {
		c.fill()
	}
	return c.Context.Err()
}

// newStoreAndBackup returns a stopped store with some megabytes, and a backup of it elsewhere.
func newStoreAndBackup(t *testing.T, env []string, keys int) (stored acknowledged, backup string) {
	t.Helper()
	p := spawn(t, env)
	stored = acknowledged{}
	for i := range keys {
		if status := stored.put(t, p, fmt.Sprintf("old%d", i), 200_000); status != http.StatusOK {
			t.Fatal(status)
		}
	}
	backup = filepath.Join(t.TempDir(), "backup.db")
	p.command(t, true, "backup", backup)
	p.stop(t)
	return stored, backup
}

// stop stops the process as an operator does.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.ended
}

// onlyThese checks the files of a directory.
func onlyThese(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if !slices.Equal(names, want) {
		t.Errorf("there are %q, want %q", names, want)
	}
}

// TestRestoreOnFullDisk checks that a restore without enough room says how much it needs,
// does not change the store and leaves no files, even if the disk becomes full meanwhile.
func TestRestoreOnFullDisk(t *testing.T) {
	d := newDisk(t, "64m")
	env := environment(filepath.Join(d.dir, "kv.db"), "2")
	stored, backup := newStoreAndBackup(t, env, 60)
	restore := func(ctx context.Context) {
		t.Helper()
		_, kept, err := sqlite.Restore(ctx, backup, "sqlite:"+filepath.Join(d.dir, "kv.db"), time.Now())
		if err == nil || kept != "" || !strings.Contains(err.Error(), "bytes free in "+d.dir) {
			t.Errorf("restore = %q, %v", kept, err)
		}
		for _, part := range []string{"kv.db.partial", "kv.db.restoring"} {
			if _, err := os.Stat(filepath.Join(d.dir, part)); err == nil {
				t.Errorf("%s is left", part)
			}
		}
	}
	ballast := ""
	filling := &fillingContext{Context: t.Context(), fill: func() { ballast = d.fill(t) }}
	filling.left.Store(100)
	restore(filling)
	if ballast == "" {
		t.Fatal("the restore ended before the disk was full")
	}
	restore(t.Context())
	refusedToStart(t, env, "the disk is full") // rather than damaged
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	p := spawn(t, env)
	stored.verify(t, p)
	p.stop(t)
	p.command(t, true, "restore", backup)
	p = spawn(t, env)
	stored.read(t, p)
	if revision := p.revision(t); revision <= int64(len(stored)) {
		t.Errorf("the restored store is at revision %d, and %d were given out", revision, len(stored))
	}
	p.check(t)
}

// TestBackupOnFullDisk backs up a running and a stopped service to a full disk, and fills
// the disk on which the service makes its copy.
func TestBackupOnFullDisk(t *testing.T) {
	faulty, full := newFaultyDisk(t), newDisk(t, "4m")
	env := faulty.environment(t)
	stored, _ := newStoreAndBackup(t, env, 40)
	target := filepath.Join(full.dir, "backup.db")
	p := spawn(t, env)
	p.faulty = true
	for range 2 {
		out := p.command(t, false, "backup", target)
		if !strings.Contains(out, "bytes free in "+full.dir) {
			t.Errorf("backup:\n%s", out)
		}
		onlyThese(t, full.dir)
		if p.cmd.ProcessState == nil { // then of the stopped one
			faulty.set(t, fault{op: "write", suffix: ".copy", err: syscall.ENOSPC, mode: "short"})
			p.want(t, "GET", "/db/backup", "", http.StatusInsufficientStorage, `"storage_full"`)
			faulty.set(t)
			onlyThese(t, faulty.dir, "kv.db", "kv.db-shm", "kv.db-wal", "kv.db.lock")
			stored.put(t, p, "goes on", 1_000)
			p.want(t, "HEAD", "/db/backup", "", http.StatusOK, "")
			p.stop(t)
		}
	}
	p = spawn(t, env)
	stored.verify(t, p)
	p.command(t, true, "backup", filepath.Join(t.TempDir(), "backup.db"))
}

// TestKillRestore kills a restore after each of its steps and at random moments. The next
// start must find the whole old store or the whole new one, or say that the restore must be
// repeated, which then gives the new one.
func TestKillRestore(t *testing.T) {
	dir := t.TempDir()
	env := environment(filepath.Join(dir, "kv.db"), "2")
	stored, backup := newStoreAndBackup(t, env, 15)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	exists := func(suffix string) func() bool {
		return func() bool { _, err := os.Stat(filepath.Join(dir, "kv.db"+suffix)); return err == nil }
	}
	aside := func() bool {
		names, _ := filepath.Glob(filepath.Join(dir, "kv.db.before-restore-*"))
		return len(names) > 0
	}
	moments := []func() bool{
		exists(".partial"), exists(".restoring"), aside,
		func() bool { return aside() && exists("")() },
		func() bool { return exists(".partial")() && rand.IntN(20_000) == 0 },
	}
	for round := range 25 {
		names, _ := filepath.Glob(filepath.Join(dir, "kv.db.before-restore-*"))
		for _, name := range names {
			os.Remove(name)
		}
		// This is not in the backup. It distinguishes the old store from the new one.
		p := spawn(t, env)
		mark := fmt.Sprintf("/put/new%d", round)
		p.want(t, "PUT", mark, `{"value":1}`, http.StatusOK, "")
		p.kill(t) // so that the old one is in two files

		restore := exec.Command(path, "restore", backup)
		restore.Env = env
		if err := restore.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- restore.Wait() }()
		killWhen(t, restore, ended, moments[round%len(moments)])

		found[afterKill(t, env, backup, strings.TrimPrefix(mark, "/put"), stored)]++
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	t.Logf("after a kill: %v", found)
}

// killWhen kills a process as soon as a condition holds, unless it has ended.
func killWhen(t *testing.T, command *exec.Cmd, ended chan error, come func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !come(); {
		select {
		case <-ended:
			return
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the restore does not end")
		}
	}
	_ = command.Process.Kill()
	<-ended
}

// afterKill starts the service and returns what it found: the old store, the new one, or a
// restore to repeat.
func afterKill(t *testing.T, env []string, backup, mark string, stored acknowledged) (found string) {
	t.Helper()
	path, _ := binary()
	command := exec.Command(path, "check")
	command.Env = append(slices.Clip(env), "GORACE=atexit_sleep_ms=0")
	_, _ = command.CombinedOutput() // a look at the files must not matter
	dir := filepath.Dir(strings.TrimPrefix(env[len(env)-2], "KV_DATABASE_URL=sqlite:"))
	if _, err := os.Stat(filepath.Join(dir, "kv.db.restoring")); err == nil {
		found = "repeated, "
		refusedToStart(t, env, "a restore was interrupted before its end: repeat it")
		again := exec.Command(path, "restore", backup)
		again.Env = env
		if out, err := again.CombinedOutput(); err != nil {
			t.Fatalf("the repeated restore: %v\n%s", err, out)
		}
	}
	p := spawn(t, env)
	status, _, err := p.exchange(t.Context(), "GET", "/get"+mark, "")
	if err != nil {
		t.Fatal(err)
	}
	if found += "new"; status == http.StatusOK {
		found = strings.TrimSuffix(found, "new") + "old"
	}
	if found == "repeated, old" {
		t.Error("the repeated restore restored nothing")
	}
	for key, value := range stored {
		_, body, err := p.exchange(t.Context(), "GET", "/get/"+key, "")
		if err != nil || !strings.Contains(string(body), value) {
			t.Errorf("%s store: GET %s: %.200s, %v", found, key, body, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "kv.db.partial")); err == nil {
		t.Error("kv.db.partial is left after the start")
	}
	p.kill(t)
	p.check(t)
	return found
}

// refusedToStart starts the service, which must exit and say why.
func refusedToStart(t *testing.T, env []string, want string) {
	t.Helper()
	path, _ := binary()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	start := exec.CommandContext(ctx, path)
	start.Env = env
	if out, err := start.CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
		t.Errorf("the start: %v\n%s", err, out)
	}
}
