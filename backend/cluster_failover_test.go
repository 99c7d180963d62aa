package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kvstore/backend/database/postgres/postgrestest"
)

// TestClusterLostCommits lets a standby take over that lacks acknowledged commits, as without synchronous
// replication, while clients read and watch everywhere. Nothing of the lost history is read after that,
// and every watch ends with a reset.
func TestClusterLostCommits(t *testing.T) {
	primary := postgrestest.Server(t, nil)
	standby := postgrestest.Standby(t, primary)
	both := strings.Replace(primary.URL("postgres"), primary.Address(), primary.Address()+","+standby.Address(), 1)
	c := startCluster(t, backendProgram(t), both)
	write := func(where site, value string) (written fact) {
		status, body, err := where.exchange(t.Context(), "PUT", "/put/k", `{"value":"`+value+`"}`)
		if err != nil || status != http.StatusOK || json.Unmarshal(body, &written) != nil {
			t.Fatalf("%d %s, %v", status, body, err)
		}
		return written
	}
	write(c.gateways[0].site, "kept")
	postgrestest.AwaitReplay(t, primary)
	standby.Stop()
	var lost fact
	for range 10 {
		lost = write(c.anywhere(), "lost")
	}
	var dead atomic.Bool // the primary
	reads, count := atomic.Int64{}, newTally()
	sites := c.sites()
	clients(t, len(sites), func(ctx context.Context, client, _ int) error {
		after, began := dead.Load(), time.Now()
		status, body, err := sites[client].exchange(ctx, "GET", "/get/k", "")
		if after && strings.Contains(string(body), "lost") {
			t.Errorf("%s, after the primary has ended: %d %s", sites[client].url, status, body)
		}
		if err == nil {
			err = failureOf(status, body)
		}
		if ctx.Err() == nil {
			count.note(err, false, began)
			reads.Add(1)
		}
		return err
	})
	streams := watchAll(t, sites)
	eventually(t, "the caches are warm", func() error {
		if n := reads.Load(); n < 200 {
			return fmt.Errorf("%d reads", n)
		}
		return nil
	})
	primary.Kill()
	dead.Store(true)
	promoted, err := standby.Restart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(promoted.Kill)
	postgrestest.Promote(t, promoted)
	began := time.Now()
	for _, where := range sites {
		eventually(t, where.url+" serves what was kept", func() error {
			status, body, err := where.exchange(t.Context(), "GET", "/get/k", "")
			if err == nil && (status != http.StatusOK || !strings.Contains(string(body), `"kept"`)) {
				err = fmt.Errorf("%d %s", status, body)
			}
			return err
		})
	}
	detected := time.Since(began)
	if detected > 5*time.Second { // the aim is one second
		t.Errorf("detected after %s", detected)
	}
	for _, n := range c.backends {
		if _, body, err := n.exchange(t.Context(), "GET", "/health", ""); err != nil || !strings.Contains(string(body), "lost") {
			t.Errorf("/health of %s: %s, %v", n.url, body, err)
		}
	}
	for where, text := range streams() {
		if !strings.Contains(text, "event: compacted\n") || !strings.Contains(text, `"reset":true`) {
			t.Errorf("the watch at %s ends without a reset: %q", where, text)
		}
	}
	again := write(c.anywhere(), "again")
	if again.Version != 2 || again.Revision <= lost.Revision {
		t.Errorf("the next write is %+v, the last that was lost %+v", again, lost)
	}
	for _, where := range sites {
		text := watchUntil(t, where, lost.Revision, `"again"`)
		if !strings.Contains(text, `"reset":true`) {
			t.Errorf("a watch from a lost revision, at %s: %q", where.url, text)
		}
	}
	report(t, "10 acknowledged commits lost: %d ms after the promotion every site serves what was kept; reads: %s",
		detected.Milliseconds(), count)
}

// watchUntil watches from a revision until a text comes, and returns what has come.
func watchUntil(t *testing.T, where site, since int64, end string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/watch?since=%d", where.url, since), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var text strings.Builder
	for buffer := make([]byte, 4096); !strings.Contains(text.String(), end); {
		n, err := response.Body.Read(buffer)
		if text.Write(buffer[:n]); err != nil {
			t.Errorf("the watch at %s ends with %v after %q", where.url, err, text.String())
			break
		}
	}
	return text.String()
}

// watchAll watches at each site, and returns a function that returns, by site, what a watch has got when it
// has ended by itself.
func watchAll(t *testing.T, sites []site) (ended func() map[string]string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	var mu sync.Mutex
	texts := map[string]string{}
	for _, where := range sites {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, where.url+"/watch?since=0", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%+v, %v", response, err)
		}
		watching.Go(func() {
			defer response.Body.Close()
			text, _ := io.ReadAll(response.Body) // whatever ends it
			if ctx.Err() != nil && !t.Failed() {
				t.Errorf("the watch at %s does not end", where.url)
			}
			mu.Lock()
			defer mu.Unlock()
			texts[where.url] = string(text)
		})
	}
	t.Cleanup(func() { cancel(); watching.Wait() })
	return func() map[string]string {
		defer time.AfterFunc(patience, cancel).Stop()
		watching.Wait()
		return texts
	}
}

// TestClusterUnreplicated ends the wait of commits for a synchronous standby that is down, as an operator
// may with pg_cancel_backend. No write is answered with success before the standby is there again.
func TestClusterUnreplicated(t *testing.T) {
	onlyLong(t)
	primary := postgrestest.Server(t, nil)
	standby := postgrestest.Standby(t, primary)
	url := primary.URL("postgres")
	c := startCluster(t, backendProgram(t), url)
	postgrestest.Exec(t, url, "ALTER SYSTEM SET synchronous_standby_names = 'standby'")
	postgrestest.Exec(t, url, "SELECT pg_reload_conf()")
	count := newTally()
	put := func(where site) error {
		began := time.Now()
		status, body, err := where.exchange(t.Context(), "PUT", "/put/k", `{"value":1}`)
		if err == nil {
			err = failureOf(status, body)
		}
		count.note(err, true, began)
		return err
	}
	if err := put(c.backends[0].site); err != nil {
		t.Fatal(err)
	}
	for _, outage := range []time.Duration{5 * time.Second, 15 * time.Second, 5 * time.Second} {
		standby.Kill()
		var down atomic.Bool
		down.Store(true)
		var writing sync.WaitGroup
		for _, n := range c.backends {
			writing.Go(func() {
				if err := put(n.site); err == nil && down.Load() {
					t.Error("a write is answered with success, and no standby has it")
				}
			})
		}
		for end := time.Now().Add(outage); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			postgrestest.Exec(t, url, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
		}
		down.Store(false)
		var err error
		if standby, err = standby.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(standby.Kill)
		writing.Wait()
		eventually(t, "writes work", func() error { return put(c.backends[0].site) })
	}
	report(t, "pg_cancel_backend every 0.1 s while the standby is down, for 5, 15 and 5 s: %s", count)
}
