package main_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// want makes a request and checks its status and body.
func (p *process) want(t *testing.T, method, path, body string, wantStatus int, want string) {
	t.Helper()
	status, text, err := p.exchange(t.Context(), method, path, body)
	if err != nil || status != wantStatus || !strings.Contains(string(text), want) {
		t.Errorf("%s %s: %d %.300s, %v; want %d with %s", method, path, status, text, err, wantStatus, want)
	}
}

// waitHealthy waits until /health reports a healthy database, without writing.
func (p *process) waitHealthy(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		status, body, err := p.exchange(t.Context(), "GET", "/health", "")
		if err == nil && status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("/health: %d %s, %v", status, body, err)
		}
	}
}

// TestDiskErrors checks that every disk error becomes an answer that says so, that reads go
// on, and that the store recovers by itself once the error is gone. No acknowledged write
// is lost and no refused one appears, even after a kill or a power loss.
func TestDiskErrors(t *testing.T) {
	const (
		full   = `"code":"storage_full"`
		failed = `"code":"disk_failed"`
	)
	for _, test := range []struct {
		name   string
		fault  fault
		status int
		code   string
		health int
	}{
		{"no space", fault{op: "write", suffix: "-wal", err: syscall.ENOSPC}, 507, full, 200},
		{"no space in the middle", fault{op: "write", suffix: "-wal", err: syscall.ENOSPC, mode: "short"}, 507, full, 200},
		{"quota", fault{op: "write", suffix: "-wal", err: syscall.EDQUOT, mode: "short"}, 507, full, 200},
		{"write error", fault{op: "write", suffix: "-wal", err: syscall.EIO}, 503, failed, 503},
		{"write error in the middle", fault{op: "write", suffix: "-wal", err: syscall.EIO, mode: "short"}, 503, failed, 503},
		{"read-only", fault{op: "write", err: syscall.EROFS}, 503, failed, 503},
		{"sync error", fault{op: "sync", suffix: "-wal", err: syscall.EIO, count: 1}, 503, failed, 503},
		{"sync error, written", fault{op: "sync", suffix: "-wal", err: syscall.EIO, count: 1, mode: "keep"}, 503, failed, 503},
		{"no space at the sync", fault{op: "sync", suffix: "-wal", err: syscall.ENOSPC, count: 1, mode: "keep"}, 507, full, 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newFaultyDisk(t)
			env := d.environment(t)
			p, stored := spawn(t, env), acknowledged{}
			p.faulty = true
			for i := range 5 {
				stored.put(t, p, fmt.Sprintf("k%d", i), 100)
			}
			d.set(t, test.fault)
			p.want(t, "PUT", "/put/k1", `{"value":"refused"}`, test.status, test.code)
			if test.fault.count == 0 {
				p.wantHealth(t, test.health, `"detail":"The disk`)
			}
			p.want(t, "GET", "/readyz", "", http.StatusOK, `"ok"`)
			p.want(t, "GET", "/get/k4", "", http.StatusOK, `"source":"cache"`)
			stored.verify(t, p)
			for _, losePower := range []bool{false, true} {
				p.kill(t)
				d.set(t)
				if losePower {
					d.losePower(t)
				}
				p = spawn(t, env)
				p.faulty = true
				stored.verify(t, p)
				d.set(t, test.fault)
				p.want(t, "PUT", "/put/k1", `{"value":"refused"}`, test.status, test.code)
				d.set(t)
				if test.health != http.StatusOK {
					p.waitHealthy(t)
				}
				if stored.put(t, p, fmt.Sprintf("after%v", losePower), 100) != http.StatusOK {
					t.Error("a write was refused when the disk worked again")
				}
				stored.verify(t, p)
				p.wantHealth(t, http.StatusOK, `"database":{"status":"ok"}`)
			}
			p.kill(t)
			p.check(t)
		})
	}
}

// TestReadErrors checks that unreadable data is an error that says so, and never another
// value, that the cache still works, and that the store recovers by itself.
func TestReadErrors(t *testing.T) {
	d := newFaultyDisk(t)
	p, stored := spawn(t, d.environment(t)), acknowledged{}
	p.faulty = true
	for i := range 300 {
		stored.put(t, p, fmt.Sprintf("k%03d", i), 2_000)
	}
	d.set(t, fault{op: "read", err: syscall.EIO})
	var failed atomic.Int32
	var reading sync.WaitGroup
	for key, value := range stored { // concurrently, so that connections are opened on the failing disk, too
		reading.Go(func() {
			status, body, err := p.exchange(t.Context(), "GET", "/get/"+key, "")
			switch {
			case err == nil && status == http.StatusInternalServerError && strings.Contains(string(body), `"code":"store_damaged"`):
				failed.Add(1)
			case err != nil || status != http.StatusOK || !strings.Contains(string(body), value):
				t.Errorf("%s: %d %.200s, %v", key, status, body, err)
			}
		})
	}
	reading.Wait()
	if int(failed.Load()) < len(stored)/2 {
		t.Errorf("%d of %d reads failed", failed.Load(), len(stored))
	}
	p.want(t, "GET", "/get/k299", "", http.StatusOK, `"source":"cache"`)
	status, body, err := p.exchange(t.Context(), "GET", "/health", "")
	if err != nil || !strings.Contains(string(body), "its disk does not give it back") {
		t.Errorf("/health: %d %s, %v", status, body, err)
	}
	d.set(t)
	p.waitHealthy(t)
	stored.verify(t, p)
	if stored.put(t, p, "after", 100) != http.StatusOK {
		t.Error("a write was refused when the disk worked again")
	}
	p.check(t)
}

// TestOutcomeUnknown checks writes to a log that can be written but not synced. The answer
// is that the outcome is unknown: no read sees the write, but the next process may, and
// then it stays. Once the disk has worked again, the write is gone for good.
func TestOutcomeUnknown(t *testing.T) {
	for _, mode := range []string{"lose", "keep"} {
		for _, worksAgain := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, works again %v", mode, worksAgain), func(t *testing.T) {
				d := newFaultyDisk(t)
				env := d.environment(t)
				p := spawn(t, env)
				p.faulty = true
				p.want(t, "PUT", "/put/k", `{"value":"first"}`, http.StatusOK, `"version":1`)
				d.set(t, fault{op: "sync", suffix: "-wal", err: syscall.EIO, mode: mode})
				p.want(t, "PUT", "/put/k", `{"value":"second"}`, http.StatusInternalServerError, `"code":"outcome_unknown"`)
				p.want(t, "GET", "/get/k", "", http.StatusOK, `"value":"first"`)
				p.wantHealth(t, http.StatusServiceUnavailable, "The disk reports errors")
				if worksAgain {
					d.set(t)
					p.waitHealthy(t)
				}
				p.kill(t)
				d.set(t)
				p = spawn(t, env)
				_, seen, err := p.exchange(t.Context(), "GET", "/get/k", "")
				if err != nil || worksAgain && !strings.Contains(string(seen), `"first"`) {
					t.Errorf("after a restart: %s, %v", seen, err)
				}
				p.want(t, "PUT", "/put/other", `{"value":1}`, http.StatusOK, `"version":1`)
				p.kill(t)
				d.losePower(t)
				p = spawn(t, env)
				if _, later, err := p.exchange(t.Context(), "GET", "/get/k", ""); err != nil || string(later) != string(seen) {
					t.Errorf("after a loss of power: %s, %v, was %s", later, err, seen)
				}
				p.want(t, "GET", "/get/other", "", http.StatusOK, `"version":1`)
			})
		}
	}
}

// TestDiskErrorsAtRandom makes errors, kills and power losses in random order. Writes that
// were acknowledged or read stay, and refused ones never appear.
func TestDiskErrorsAtRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	d := newFaultyDisk(t)
	env := d.environment(t)
	p := spawn(t, env)
	p.faulty = true
	var stays, never []string // "key value"
	for round := range 12 {
		d.set(t, someFaults(random)...)
		for i := range 40 {
			key := fmt.Sprintf("k%d", random.IntN(6))
			write := fmt.Sprintf("%s %d.%d %s", key, round, i, strings.Repeat("x", random.IntN(9_000)))
			status, body, err := p.exchange(t.Context(), "PUT", "/put/"+key, fmt.Sprintf(`{"value":%q}`, write))
			switch {
			case err != nil:
				t.Fatal(err)
			case status == http.StatusOK:
				stays = append(stays, write)
			case !strings.Contains(string(body), "outcome_unknown"):
				never = append(never, write)
			}
			var read struct{ Value string }
			if status, body, err = p.exchange(t.Context(), "GET", "/get/"+key, ""); err == nil && status == http.StatusOK {
				err = json.Unmarshal(body, &read)
				stays = append(stays, read.Value)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if random.IntN(3) == 0 {
			continue
		}
		p.kill(t)
		d.set(t)
		if random.IntN(2) == 0 {
			d.losePower(t)
		}
		p = spawn(t, env)
		p.faulty = true
		p.holds(t, stays, never)
	}
	d.set(t)
	p.waitHealthy(t)
	p.holds(t, stays, never)
	p.kill(t)
	p.check(t)
}

func someFaults(random *rand.Rand) (faults []fault) {
	for range random.IntN(3) {
		faults = append(faults, fault{
			op:     []string{"write", "sync"}[random.IntN(2)],
			suffix: []string{"-wal", ".db", "*"}[random.IntN(3)],
			err:    []syscall.Errno{syscall.EIO, syscall.ENOSPC}[random.IntN(2)],
			count:  random.IntN(8),
			mode:   []string{"lose", "keep", "short"}[random.IntN(3)],
		})
	}
	return faults
}

// holds checks the history of every key.
func (p *process) holds(t *testing.T, stays, never []string) {
	t.Helper()
	var there []string
	for n := range 6 {
		status, body, err := p.exchange(t.Context(), "GET", fmt.Sprintf("/history/k%d?values=true&limit=1000", n), "")
		var page struct {
			Versions []struct {
				Version int
				Value   string
			}
		}
		if err == nil && status == http.StatusOK {
			err = json.Unmarshal(body, &page)
		}
		if err != nil || status != http.StatusOK && status != http.StatusNotFound {
			t.Fatalf("%d %.300s, %v", status, body, err)
		}
		for i, v := range page.Versions {
			there = append(there, v.Value)
			if v.Version != len(page.Versions)-i {
				t.Errorf("k%d: version %d at place %d of %d", n, v.Version, i, len(page.Versions))
			}
		}
	}
	for _, write := range stays {
		if !slices.Contains(there, write) {
			t.Errorf("lost: %.20s", write)
		}
	}
	for _, write := range never {
		if slices.Contains(there, write) {
			t.Errorf("was refused, but exists: %.20s", write)
		}
	}
}

// TestStartOnFailingDisk checks that the next process does not serve data that may only be
// in memory either. It refuses to start, says why, and starts once the disk works.
func TestStartOnFailingDisk(t *testing.T) {
	d := newFaultyDisk(t)
	env := d.environment(t)
	p, stored := spawn(t, env), acknowledged{}
	p.faulty = true
	stored.put(t, p, "k", 100)
	d.set(t, fault{op: "sync", err: syscall.EIO})
	p.want(t, "PUT", "/put/k", `{"value":"unknown"}`, http.StatusInternalServerError, `"code":"outcome_unknown"`)
	p.kill(t)
	if out := refusedStart(t, env); !strings.Contains(out, "move the write-ahead log into the file") {
		t.Error(out)
	}
	d.set(t)
	p = spawn(t, env)
	p.want(t, "GET", "/get/k", "", http.StatusOK, `"version":`)
}
