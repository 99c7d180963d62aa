package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kvstore/backend/database/postgres/postgrestest"
)

// TestClusterUpgrade replaces the backends one after another by those of a newer version, and puts the older
// ones back, while clients write and read everywhere. The newer version has added to the tables, and the clocks of
// its machines are an hour ahead. No acknowledged write is lost, times never run backwards, and a key
// that has ended does not return.
func TestClusterUpgrade(t *testing.T) {
	older, newer, server := backendProgram(t), newerProgram(t), postgrestest.Server(t, nil)
	c := startCluster(t, older, server.URL("postgres"))
	if status, body, err := c.backends[0].exchange(t.Context(), "PUT", "/put/ended?ttl=1s", `{"value":1}`); err != nil || status != http.StatusOK {
		t.Fatal(status, string(body), err)
	}
	for _, where := range c.sites() {
		eventually(t, "the key has ended", func() error { return wantEnded(t.Context(), where) })
	}
	const writers = 6
	var mu sync.Mutex
	written, last, count := map[string]string{}, make([]fact, writers), newTally() // path of a version to its value
	stop := clients(t, writers, func(ctx context.Context, client, number int) error {
		where, key, value, began := c.anywhere(), fmt.Sprint("k", client), fmt.Sprintf("%q", fmt.Sprint("v", number)), time.Now()
		status, body, err := where.exchange(context.WithoutCancel(ctx), "PUT", "/put/"+key, `{"value":`+value+`}`)
		if err == nil {
			err = failureOf(status, body)
		}
		count.note(err, true, began)
		if err == nil {
			var now fact
			if err := json.Unmarshal(body, &now); err != nil || now.Version <= last[client].Version || now.Timestamp < last[client].Timestamp {
				t.Errorf("%s is answered after %+v, %v", body, last[client], err)
			}
			last[client] = now
			mu.Lock()
			written[fmt.Sprintf("/get/%s?version=%d", key, now.Version)] = `"value":` + value + `,`
			mu.Unlock()
		}
		if gone := wantEnded(context.WithoutCancel(ctx), where); gone != nil && strings.Contains(gone.Error(), `"value"`) {
			t.Errorf("a key that had ended: %v", gone)
		}
		return err
	})
	for _, statement := range []string{
		"ALTER TABLE versions ADD COLUMN note text", "CREATE TABLE notes (id bigint PRIMARY KEY)", "UPDATE kvstore_schema SET version = 2",
	} {
		postgrestest.Exec(t, server.URL("postgres"), statement)
	}
	for _, program := range []string{newer, older} {
		for _, n := range c.backends {
			if err := n.process.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			<-n.process.ended
			n.program = program
			n.start(t)
			if _, body, err := n.exchange(t.Context(), "GET", "/health", ""); err != nil || strings.Contains(string(body), `"9.9.9"`) != (program == newer) {
				t.Errorf("/health: %s, %v", body, err)
			}
		}
	}
	stop()
	for path, value := range written {
		where := c.anywhere()
		if status, body, err := where.exchange(t.Context(), "GET", path, ""); err != nil || status != http.StatusOK || !strings.Contains(string(body), value) {
			t.Errorf("%s: %d %s, %v, want %s", path, status, body, err, value)
		}
	}
	for _, one := range last {
		if ahead := time.Until(time.UnixMicro(int64(one.Timestamp * 1e6))); ahead > time.Minute {
			t.Errorf("a write has a time that is %s ahead", ahead)
		}
	}
	report(t, "three backends replaced by newer ones and back; %s; %d acknowledged writes are there", count, len(written))
}

// wantEnded returns an error with the answer if a key is there, or cannot be read.
func wantEnded(ctx context.Context, where site) error {
	status, body, err := where.exchange(ctx, "GET", "/get/ended", "")
	if err == nil && status != http.StatusNotFound {
		err = fmt.Errorf("%d %s", status, body)
	}
	return err
}

// newerProgram builds the program as version 9.9.9, with a clock that is an hour ahead.
func newerProgram(t *testing.T) string {
	t.Helper()
	source, err := filepath.Abs("store/systemclock.go")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	clock, overlay := filepath.Join(dir, "systemclock.go"), filepath.Join(dir, "overlay.json")
	replacement, err := json.Marshal(map[string]any{"Replace": map[string]string{source: clock}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		clock: "package store\n\nimport \"time\"\n\nfunc systemTime() time.Time { return time.Now().Add(time.Hour) }\n", overlay: string(replacement),
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path, err := build("newer", ".", "-overlay", overlay, "-ldflags", "-X kvstore/internal/telemetry.Version=9.9.9")
	if err != nil {
		t.Fatal(err)
	}
	return path
}
