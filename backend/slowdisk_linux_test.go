package main_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestSlowDisk makes syncs slow. Reads do not wait for them, waiting writes are bounded and
// the rest is refused, /health reports it, and after SIGTERM accepted writes are answered.
func TestSlowDisk(t *testing.T) {
	d := newFaultyDisk(t)
	env := d.environment(t, "KV_MAX_QUEUED_WRITES=8")
	p, stored := spawn(t, env), acknowledged{}
	for i := range 5 {
		stored.put(t, p, fmt.Sprintf("k%d", i), 100)
	}
	d.set(t, fault{op: "sync", suffix: "-wal", delay: 3_600_000}) // until the test changes it
	var group sync.WaitGroup
	var mu sync.Mutex
	ended := map[string]int{} // the status of each answered write
	refused := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, status := range ended {
			if status == http.StatusServiceUnavailable {
				n++
			}
		}
		return n
	}
	write := func(key string) {
		status, body, err := p.exchange(t.Context(), "PUT", "/put/"+key, `{"value":1}`)
		mu.Lock()
		defer mu.Unlock()
		if ended[key] = status; err != nil || status != http.StatusOK && (status != http.StatusServiceUnavailable || !strings.Contains(string(body), `"overloaded"`)) {
			t.Errorf("%s: %d %s, %v", key, status, body, err)
		}
	}
	group.Go(func() { write("first") })
	for range 30 { // from the cache and from the disk
		stored.verify(t, p)
	}
	for i := range 20 {
		group.Go(func() { write(fmt.Sprintf("w%d", i)) })
	}
	for deadline := time.Now().Add(patience); refused() != 13; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d writes of 21 were refused, with room for 8", refused())
		}
	}
	stored.verify(t, p)
	p.want(t, "GET", "/readyz", "", http.StatusOK, `"ok"`)
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		_, body, err := p.exchange(t.Context(), "GET", "/health", "")
		if err == nil && strings.Contains(string(body), `"status":"ok","detail":"The disk is slow`) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("/health: %s, %v", body, err)
		}
	}
	d.set(t, fault{op: "sync", suffix: "-wal", delay: 300})
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	group.Wait()
	<-p.ended
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	d.set(t)
	p = spawn(t, env)
	for key, status := range ended {
		want := http.StatusOK
		if status != http.StatusOK {
			want = http.StatusNotFound
		}
		p.want(t, "GET", "/get/"+key, "", want, "")
	}
}

// TestLostSharedMemory checks what happens if the kernel cannot provide a page of the
// index of SQLite's log, which is a mapped file. There is no error to return: the process
// gets SIGBUS and dies. No acknowledged write is lost.
func TestLostSharedMemory(t *testing.T) {
	d := newFaultyDisk(t)
	env := d.environment(t)
	p, stored := spawn(t, env), acknowledged{}
	p.faulty = true
	for i := range 20 {
		stored.put(t, p, fmt.Sprintf("k%d", i), 1_000)
	}
	if err := os.Truncate(d.database()+"-shm", 0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.exchange(t.Context(), "PUT", "/put/dies", `{"value":1}`); err == nil {
		t.Error("the process survived; doc.go says that it dies")
	}
	<-p.ended
	if !strings.Contains(p.log.String(), "SIGBUS") {
		t.Error("the log does not say why the process died")
	}
	p = spawn(t, env)
	stored.verify(t, p)
	p.check(t)
}
