//go:build replication

package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// The service is killed replicationKills times, each time after replicationWrites
	// answered writes.
	replicationKills  = 3
	replicationWrites = 2_000
)

// TestReplication replicates with the settings of litestream.yml while clients write, and
// kills the service and Litestream meanwhile. A restore from the replica must have every
// write that was answered.
func TestReplication(t *testing.T) {
	r := newReplication(t)
	r.replicate(t)
	load := &replicatedLoad{writes: map[drillPlace]string{}}
	var current atomic.Pointer[process]
	current.Store(r.spawn(t))
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() { load.client(t, fmt.Sprintf("key%d", i), &current) })
	}
	for kill := range replicationKills {
		load.waitFor(t, replicationWrites*(kill+1))
		if kill == 1 { // write and checkpoint without Litestream
			r.kill(t)
			load.waitFor(t, replicationWrites*(kill+1)+500)
			r.replicate(t)
		}
		current.Load().kill(t)
		if kill == replicationKills-1 {
			load.stop.Store(true)
		} else {
			current.Store(r.spawn(t))
		}
	}
	clients.Wait()

	// Litestream continues with the files of the killed service.
	load.compare(t, r, r.restore(t, load.revision))
}

// TestReplicationDestroy destroys a version while Litestream reads. The version must be
// gone, and the answer must say that its bytes may still be on disk.
func TestReplicationDestroy(t *testing.T) {
	r := newReplication(t)
	r.replicate(t)
	p := r.spawn(t)
	p.faulty = true // the 503 below
	load := &replicatedLoad{writes: map[drillPlace]string{}}
	load.put(t, p, "key", "to be destroyed")
	load.put(t, p, "key", "the latest")
	r.restore(t, load.revision)
	status, body, err := p.exchange(t.Context(), "POST", "/destroy/key?versions=1", "")
	if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(string(body), "The values are erased, but a long read (of Litestream or") {
		t.Errorf("destroy: %d %s, %v", status, body, err)
	}
	if status, _, err := p.exchange(t.Context(), "GET", "/get/key?version=1", ""); err != nil || status != http.StatusGone {
		t.Errorf("the destroyed version: %d, %v", status, err)
	}
	r.stop(t)
	if status, body, err := p.exchange(t.Context(), "POST", "/destroy/key?versions=1", ""); err != nil || status != http.StatusOK {
		t.Errorf("destroy without Litestream: %d %s, %v", status, body, err)
	}
	// Litestream starts again, with the log that was emptied meanwhile.
	r.replicate(t)
	load.put(t, p, "key", "after it")
	delete(load.writes, drillPlace{"key", 1})
	load.compare(t, r, r.restore(t, load.revision))
}

// A replication is a database that Litestream replicates into a directory.
type replication struct {
	program, path, replica string
	env                    []string
	running                *exec.Cmd
	log                    childLog
}

func newReplication(t *testing.T) *replication {
	t.Helper()
	program, err := filepath.Abs("../bin/litestream")
	if named := os.Getenv("LITESTREAM"); named != "" { // to try another version
		program, err = named, nil
	}
	if err == nil {
		_, err = os.Stat(program)
	}
	if err != nil {
		t.Fatalf("go tool task test:replication builds Litestream: %v", err)
	}
	dir := t.TempDir()
	r := &replication{program: program, path: filepath.Join(dir, "kv.db"), replica: filepath.Join(dir, "replica")}
	r.env = environment(r.path, "50")
	t.Cleanup(func() {
		r.kill(t)
		if t.Failed() {
			t.Logf("log of Litestream:\n%s", r.log.String())
		}
	})
	return r
}

func (r *replication) spawn(t *testing.T) *process { return spawn(t, r.env) }

func (r *replication) command(args ...string) *exec.Cmd {
	command := exec.Command(r.program, args...)
	command.Env = append(os.Environ(), "LITESTREAM_DATABASE="+r.path, "LITESTREAM_REPLICA="+r.replica)
	return command
}

func (r *replication) replicate(t *testing.T) {
	t.Helper()
	r.running = r.command("replicate", "-config", "litestream.yml")
	r.log.address = make(chan string, 1)
	r.running.Stdout, r.running.Stderr = &r.log, &r.log
	if err := r.running.Start(); err != nil {
		t.Fatal(err)
	}
}

func (r *replication) kill(t *testing.T) {
	t.Helper()
	if r.running != nil {
		_ = r.running.Process.Kill()
		_ = r.running.Wait() // an error: it was killed
		r.running = nil
	}
}

// stop stops Litestream gracefully.
func (r *replication) stop(t *testing.T) {
	t.Helper()
	if err := r.running.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = r.running.Wait() // 1 after a signal in some versions
	r.running = nil
}

// restore restores from the replica until the result is sound and has at least that
// revision, and returns its file.
func (r *replication) restore(t *testing.T, revision int64) string {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(500 * time.Millisecond) {
		restored := filepath.Join(t.TempDir(), "restored.db")
		data, err := r.command("restore", "-config", "litestream.yml", "-o", restored, r.path).CombinedOutput()
		out := string(data)
		if err == nil {
			// A replica may lag behind, but must never be unsound.
			checked, err := runCommand(t, map[string]string{"KV_DATABASE_URL": "sqlite:" + restored}, "check")
			if err != nil {
				t.Fatalf("the restored file: %v", err)
			}
			var id string
			var at int64
			out = checked[strings.LastIndex(strings.TrimSpace(checked), "\n")+1:]
			if _, err := fmt.Sscanf(out, "store %s at revision %d:", &id, &at); err != nil {
				t.Fatalf("%q: %v", checked, err)
			}
			if at >= revision {
				return restored
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the replica does not reach revision %d: %s", revision, out)
		}
	}
}

// A replicatedLoad holds what clients wrote and the answers.
type replicatedLoad struct {
	mu       sync.Mutex
	writes   map[drillPlace]string
	revision int64 // the highest
	stop     atomic.Bool
}

// client writes until the load is stopped. It does not record writes without an answer.
func (l *replicatedLoad) client(t *testing.T, key string, current *atomic.Pointer[process]) {
	for n := 1; !l.stop.Load() && !t.Failed(); n++ {
		p := current.Load()
		if !l.put(t, p, key, fmt.Sprintf("%s %d %s", key, n, strings.Repeat("x", 2_000))) {
			for !l.stop.Load() && !t.Failed() && current.Load() == p {
				time.Sleep(time.Millisecond) // the next process is being started
			}
		}
	}
}

func (l *replicatedLoad) put(t *testing.T, p *process, key, value string) bool {
	status, body, err := p.exchange(t.Context(), "PUT", "/put/"+key, `{"value":"`+value+`"}`)
	if err != nil {
		return false
	}
	var written struct{ Version, Revision int64 }
	if err := json.Unmarshal(body, &written); err != nil || status != http.StatusOK {
		t.Errorf("%s: %d %s, %v", key, status, body, err)
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes[drillPlace{key, written.Version}] = value
	l.revision = max(l.revision, written.Revision)
	return true
}

func (l *replicatedLoad) waitFor(t *testing.T, writes int) {
	t.Helper()
	for deadline := time.Now().Add(2 * patience); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		n := len(l.writes)
		l.mu.Unlock()
		if n >= writes {
			return
		}
		if time.Now().After(deadline) || t.Failed() {
			t.Fatalf("%d of %d writes were answered", n, writes)
		}
	}
}

// compare starts a service on the restored file and reads every write that was answered.
func (l *replicatedLoad) compare(t *testing.T, r *replication, restored string) {
	t.Helper()
	p := spawn(t, environment(restored, "50"))
	p.command(t, true, "check")
	for place, value := range l.writes {
		status, body, err := p.exchange(t.Context(), "GET", fmt.Sprintf("/get/%s?version=%d", place.key, place.version), "")
		if err != nil || status != http.StatusOK || !strings.Contains(string(body), `"value":"`+value+`","version":`) {
			t.Fatalf("%+v: %d %.300s, %v", place, status, body, err)
		}
	}
	t.Logf("%d versions compared", len(l.writes))
}
