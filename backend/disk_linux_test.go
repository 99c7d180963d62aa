package main_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A disk is a small file system in memory.
type disk struct{ dir string }

func newDisk(t *testing.T, size string) *disk {
	t.Helper()
	d := &disk{t.TempDir()}
	d.mount(t, size)
	return d
}

func (d *disk) mount(t *testing.T, size string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", d.dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("this test mounts a small file system, which needs root or a user namespace (unshare -rm go test ...): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// grow changes the size of the disk.
func (d *disk) grow(t *testing.T, size string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", d.dir, "tmpfs", syscall.MS_REMOUNT, "size="+size); err != nil {
		t.Fatal(err)
	}
}

// fill writes a file that fills the disk, and returns its name.
func (d *disk) fill(t *testing.T) string {
	t.Helper()
	name := filepath.Join(d.dir, "of another program")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for piece := make([]byte, 4096); ; {
		if _, err := file.Write(piece); errors.Is(err, syscall.ENOSPC) {
			return name
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// acknowledged holds the value of each key whose write was answered, all at version 1.
type acknowledged map[string]string

func (s acknowledged) put(t *testing.T, p *process, key string, size int) (status int) {
	t.Helper()
	value := strings.Repeat(key+" ", size/(len(key)+1))
	status, body, err := p.exchange(t.Context(), "PUT", "/put/"+key, `{"value":`+strconv.Quote(value)+`}`)
	switch {
	case err != nil:
		t.Fatal(err)
	case status == http.StatusOK:
		s[key] = value
	case status != http.StatusInsufficientStorage || !strings.Contains(string(body), `"detail":"The disk is full; nothing was written","code":"storage_full"`):
		t.Errorf("PUT %s: %d %s, want 507 storage_full", key, status, body)
	}
	return status
}

// verify reads everything, mostly from disk. Nothing else may have been written.
func (s acknowledged) verify(t *testing.T, p *process) {
	t.Helper()
	s.read(t, p)
	if stats := p.revision(t); stats != int64(len(s)) {
		t.Errorf("the store is at revision %d, and %d writes were answered", stats, len(s))
	}
}

func (s acknowledged) read(t *testing.T, p *process) {
	t.Helper()
	for key, value := range s {
		status, body, err := p.exchange(t.Context(), "GET", "/get/"+key, "")
		if err != nil || status != http.StatusOK || !strings.Contains(string(body), `"value":`+strconv.Quote(value)+`,"version":1,`) {
			t.Errorf("GET %s: %d %.200s, %v", key, status, body, err)
		}
	}
}

func (p *process) wantHealth(t *testing.T, wantStatus int, want string) {
	t.Helper()
	status, body, err := p.exchange(t.Context(), "GET", "/health", "")
	if err != nil || status != wantStatus || !strings.Contains(string(body), want) {
		t.Errorf("/health: %d %s, %v; want %d with %s", status, body, err, wantStatus, want)
	}
}

// TestDiskFull fills a real disk by writes and by another file. Writes are refused with the
// reason, and reads go on. No acknowledged write is lost, even after a kill on the full
// disk, and writes work again as soon as there is room.
func TestDiskFull(t *testing.T) {
	d := newDisk(t, "24m")
	env := environment(filepath.Join(d.dir, "kv.db"), "2")
	p := spawn(t, env)
	p.faulty = true
	stored := acknowledged{}
	refused := func() {
		t.Helper()
		for range 5 {
			if stored.put(t, p, fmt.Sprintf("big%d", len(stored)), 500_000) == http.StatusOK {
				t.Error("a write of 500 kB succeeded on a full disk")
			}
		}
		stored.verify(t, p)
		p.wantHealth(t, http.StatusOK, "The disk is full")
	}
	// There is no room for a backup, but writes work.
	if stored.put(t, p, "first", 100) != http.StatusOK {
		t.Fatal("the first write was refused")
	}
	status, body, err := p.exchange(t.Context(), "GET", "/db/backup", "")
	if err != nil || status != http.StatusInsufficientStorage || !strings.Contains(string(body), "bytes free there") {
		t.Errorf("a backup: %d %.300s, %v", status, body, err)
	}
	for stored.put(t, p, fmt.Sprintf("fill%d", len(stored)), 300_000) == http.StatusOK {
	}
	t.Logf("%d values of 300 kB were stored on a disk of 24 MiB", len(stored)-1)
	for size := 200_000; size >= 100; size /= 2 { // until not even a small one fits
		stored.put(t, p, fmt.Sprintf("small%d", len(stored)), size)
	}
	refused()
	ballast := d.fill(t)
	refused()

	// Restart on the full disk.
	p.kill(t)
	p = spawn(t, env)
	p.faulty = true
	stored.verify(t, p)
	if stored.put(t, p, "big", 500_000) == http.StatusOK {
		t.Error("a write of 500 kB succeeded on a full disk after a restart")
	}
	stored.verify(t, p)

	// With room again, the next write works without a restart.
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	d.grow(t, "96m")
	for i := range 20 {
		if stored.put(t, p, fmt.Sprintf("after%d", i), 500_000) != http.StatusOK {
			t.Fatal("with room again, a write was refused")
		}
	}
	p.wantHealth(t, http.StatusOK, `"database":{"status":"ok"}`)
	stored.verify(t, p)
	file := filepath.Join(t.TempDir(), "backup.db")
	p.command(t, true, "backup", file)
	p.kill(t)
	p.check(t)
	p = spawn(t, env)
	stored.verify(t, p)
}

// TestExpiryOnFullDisk checks that a key expires on time even if there is no room for its
// tombstone. The log has few lines about it, and the tombstone is written once there is room.
func TestExpiryOnFullDisk(t *testing.T) {
	d := newDisk(t, "16m")
	p := spawn(t, environment(filepath.Join(d.dir, "kv.db"), "2"))
	p.faulty = true
	for i := range 200 {
		if status, body, err := p.exchange(t.Context(), "PUT", fmt.Sprintf("/put/short%d?ttl=1s", i), `{"value":1}`); err != nil || status != 200 {
			t.Fatal(status, string(body), err)
		}
	}
	name := d.fill(t)
	const complaint = "expired keys could not be ended"
	for deadline := time.Now().Add(patience); !strings.Contains(p.log.String(), complaint); time.Sleep(50 * time.Millisecond) {
		if status, _, err := p.exchange(t.Context(), "GET", "/db/stats", ""); err != nil || status != 200 {
			t.Fatal(status, err)
		}
		if time.Now().After(deadline) {
			t.Fatal("the tombstones were written on a full disk")
		}
	}
	// The first key has expired, or the log would have no line. The others may not have.
	if status, body, err := p.exchange(t.Context(), "GET", "/get/short0", ""); err != nil || status != http.StatusNotFound {
		t.Errorf("a key that has ended: %d %s, %v", status, body, err)
	}
	if lines := strings.Count(p.log.String(), "\n"); lines > 60 {
		t.Errorf("the log has %d lines", lines)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); p.revision(t) != 400; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the store is at revision %d, want 200 writes and 200 tombstones", p.revision(t))
		}
	}
}
