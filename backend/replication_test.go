//go:build replication

package main_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestReplication replicates with Litestream, with the settings of litestream.yml, while
// writes go on and the service is killed. What is restored from the replica alone has
// every write that was answered.
func TestReplication(t *testing.T) {
	program, err := filepath.Abs("../bin/litestream")
	if err == nil {
		_, err = os.Stat(program)
	}
	if err != nil {
		t.Fatalf("go tool task test:replication builds Litestream: %v", err)
	}
	dir := t.TempDir()
	path, replica := filepath.Join(dir, "kv.db"), filepath.Join(dir, "replica")
	litestream := func(args ...string) *exec.Cmd {
		command := exec.Command(program, args...)
		command.Env = append(os.Environ(), "LITESTREAM_DATABASE="+path, "LITESTREAM_REPLICA="+replica)
		return command
	}
	env := environment(path, "50")
	p := spawn(t, env)
	p.faulty = true // the 503 below
	replicating := litestream("replicate", "-config", "litestream.yml")
	var log childLog
	replicating.Stdout, replicating.Stderr = &log, &log
	if err := replicating.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		replicating.Process.Kill()
		replicating.Wait()
		if t.Failed() {
			t.Logf("log of Litestream:\n%s", log.String())
		}
	})

	// Clients write until the service is killed; a write that has no answer is not known.
	var mu sync.Mutex
	values, versions := map[drillPlace]string{}, map[string]int64{}
	var clients sync.WaitGroup
	for i := range 2 {
		clients.Go(func() {
			key := fmt.Sprintf("key%d", i)
			for n := int64(1); ; n++ {
				value := fmt.Sprintf("%s %d %s", key, n, strings.Repeat("x", 2_000))
				status, body, err := p.exchange(t.Context(), "PUT", "/put/"+key, `{"value":"`+value+`"}`)
				if err != nil {
					return
				}
				if status != http.StatusOK || !strings.Contains(string(body), fmt.Sprintf(`"version":%d,`, n)) {
					t.Errorf("%s: %d %s", key, status, body)
					return
				}
				mu.Lock()
				values[drillPlace{key, n}], versions[key] = value, n
				// Few enough for Litestream to keep up: litestream.yml says what happens else.
				enough := len(values) == 600
				mu.Unlock()
				if enough {
					p.cmd.Process.Kill()
				}
			}
		})
	}
	clients.Wait()
	p.kill(t)

	// Litestream goes on with what the killed service left.
	var out string
	var restored string
	for deadline := time.Now().Add(patience); ; time.Sleep(500 * time.Millisecond) {
		restored = filepath.Join(t.TempDir(), "restored.db")
		data, err := litestream("restore", "-config", "litestream.yml", "-o", restored, path).CombinedOutput()
		if err == nil {
			checked, err := runCommand(t, map[string]string{"KV_DATABASE_URL": "sqlite:" + restored}, "check")
			var id string
			var revision, keys, stored int
			if _, scanned := fmt.Sscanf(checked[strings.LastIndex(strings.TrimSpace(checked), "\n")+1:], "store %s at revision %d: %d keys, %d versions", &id, &revision, &keys, &stored); err == nil && scanned == nil && revision >= len(values) {
				break
			}
			out = fmt.Sprint(checked, err)
		} else {
			out = string(data)
		}
		t.Logf("%d writes were answered; a restore: %.200s", len(values), out)
		if time.Now().After(deadline) {
			t.Fatalf("the replica has not all of %d writes: %s", len(values), out)
		}
	}

	// While Litestream reads, a destruction erases and says that it cannot take the bytes
	// off the disk.
	p = spawn(t, env)
	p.faulty = true
	status, body, err := p.exchange(t.Context(), "POST", "/destroy/key0?versions=1", "")
	if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(string(body), "The values are erased, but a long read (of Litestream or") {
		t.Errorf("destroy: %d %s, %v", status, body, err)
	}
	if status, _, err := p.exchange(t.Context(), "GET", "/get/key0?version=1", ""); err != nil || status != http.StatusGone {
		t.Errorf("the destroyed version: %d, %v", status, err)
	}
	if err := replicating.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	replicating.Wait()
	if status, body, err := p.exchange(t.Context(), "POST", "/destroy/key0?versions=1", ""); err != nil || status != http.StatusOK {
		t.Errorf("destroy without Litestream: %d %s, %v", status, body, err)
	}
	p.kill(t)

	p.command(t, true, "restore", restored)
	p = spawn(t, env)
	for place, value := range values {
		status, body, err := p.exchange(t.Context(), "GET", fmt.Sprintf("/get/%s?version=%d", place.key, place.version), "")
		if err != nil || status != http.StatusOK || !strings.Contains(string(body), `"value":"`+value+`","version":`) {
			t.Fatalf("%+v: %d %.300s, %v", place, status, body, err)
		}
	}
	p.check(t)
}
