package traefik_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// long reports whether this is the long form (task faults), with more of everything.
func long() bool { return os.Getenv("FAULTS") == "long" }

func rounds(short, longer int) int {
	if long() {
		return longer
	}
	return short
}

// TestFaults causes faults under load, and prints what became of every request. No acknowledged
// write may be lost, no read may be stale, nothing may be written twice, and clients must
// understand every failure.
func TestFaults(t *testing.T) {
	table := &faultTable{}
	defer table.print()
	for _, name := range []string{"backend", "gateway", "traefik"} {
		t.Run("kill -9 "+name, func(t *testing.T) { restartUnderLoad(t, table, name, syscall.SIGKILL) })
		t.Run("SIGTERM "+name, func(t *testing.T) { restartUnderLoad(t, table, name, syscall.SIGTERM) })
	}
	t.Run("SIGTERM one of two gateways", func(t *testing.T) { rollingRestart(t, table) })
	t.Run("connections to backend cut", func(t *testing.T) { cutConnections(t, table) })
	t.Run("SIGSTOP backend", func(t *testing.T) { stoppedBackend(t, table) })
	t.Run("full disk", func(t *testing.T) { fullDisk(t, table) })
	full := []string{fmt.Sprintf("write * %d 0 -1 short", syscall.ENOSPC)}
	t.Run("no space, injected", func(t *testing.T) { brokenDisk(t, table, full, http.StatusInsufficientStorage, "storage_full", false) })
	write := []string{fmt.Sprintf("write * %d 0 -1 short", syscall.EIO)}
	t.Run("disk: EIO on write", func(t *testing.T) { brokenDisk(t, table, write, http.StatusServiceUnavailable, "disk_failed", false) })
	lost := []string{fmt.Sprintf("sync * %d 0 -1 lose", syscall.EIO)}
	t.Run("disk: EIO on sync", func(t *testing.T) {
		brokenDisk(t, table, lost, http.StatusInternalServerError, "outcome_unknown", false)
	})
	t.Run("disk: EIO on sync, kill -9 backend", func(t *testing.T) {
		brokenDisk(t, table, lost, http.StatusInternalServerError, "outcome_unknown", true)
	})
	t.Run("disk: EIO on read", func(t *testing.T) { unreadableDisk(t, table) })
	t.Run("disk: slow", func(t *testing.T) { slowDisk(t, table) })
	t.Run("slow clients", func(t *testing.T) { slowClients(t, table) })
	t.Run("overload", func(t *testing.T) { overload(t, table) })
	t.Run("malformed HTTP", func(t *testing.T) { malformedHTTP(t, table) })
	t.Run("clock steps", func(t *testing.T) { clockSteps(t, table) })
}

// survived checks what must hold after every fault, and adds a row.
func (f *faultTable) survived(t *testing.T, l *traffic, begin time.Time) counts {
	t.Helper()
	recovered := l.recovered(begin)
	c := l.verify(t)
	f.add(strings.TrimPrefix(t.Name(), "TestFaults/"), c, recovered)
	if c.lost > 0 || c.stale > 0 || c.doubled > 0 || c.unclear > 0 {
		t.Errorf("lost %d, stale %d, doubled %d, unclear %d", c.lost, c.stale, c.doubled, c.unclear)
	}
	return c
}

func restartUnderLoad(t *testing.T, table *faultTable, name string, signal syscall.Signal) {
	s := newStack(t)
	victim := map[string]*process{"backend": s.backend, "gateway": s.gateway, "traefik": s.traefik}[name]
	load := startTraffic(t, "k")
	var begin time.Time
	for range rounds(1, 5) {
		load.more(t, 200)
		victim.signal(t, signal)
		if code := victim.wait(t); signal == syscall.SIGTERM && code != 0 {
			t.Errorf("exit code %d", code)
		}
		begin = time.Now()
		victim.start(t)
		s.waitHealthy(t)
	}
	load.more(t, 200)
	if c := table.survived(t, load, begin); c.refused+c.cut == 0 {
		t.Error("nothing failed: the fault was none")
	}
}

// rollingRestart restarts two gateways, one after the other. No request may fail.
func rollingRestart(t *testing.T, table *faultTable) {
	first, second := freeAddress(t), freeAddress(t)
	s := newStack(t, "KV_GATEWAY_ADDR="+first, "KV_GATEWAY_URL=http://"+first+",http://"+second, "KV_LOG_LEVEL=debug")
	other := newProcess(t, "gateway 2", programs.gateway, nil,
		[]string{"KV_GATEWAY_ADDR=" + second, "KV_BACKENDS=http://" + s.backendAddress, "KV_LOG_LEVEL=debug"})
	other.start(t)
	usedByTraefik(t, other, 0)
	usedByTraefik(t, s.gateway, 0)
	load := startTraffic(t, "k")
	begin := time.Now()
	for range rounds(1, 3) {
		for _, p := range []*process{s.gateway, other} {
			load.more(t, 100)
			if code := p.stop(t); code != 0 {
				t.Errorf("%s: exit code %d", p.name, code)
			}
			before := checks(p)
			p.start(t)
			usedByTraefik(t, p, before)
		}
	}
	load.more(t, 200)
	if c := table.survived(t, load, begin); c.refused+c.cut > 0 {
		t.Errorf("%d requests failed", c.refused+c.cut)
	}
}

// usedByTraefik waits until Traefik has checked the health of the gateway more than before
// times.
func usedByTraefik(t *testing.T, gateway *process, before int) {
	t.Helper()
	eventually(t, "Traefik uses "+gateway.name, func() error {
		if n := checks(gateway); n <= before {
			return fmt.Errorf("%d health checks", n)
		}
		return nil
	})
}

// checks counts the health checks in the log.
func checks(gateway *process) int { return len(gateway.log.lines(`"uri":"/healthz"`)) }

// stoppedBackend stops the backend with SIGSTOP. Requests must get 504 in time, and once it
// continues, each may make at most one version.
func stoppedBackend(t *testing.T, table *faultTable) {
	s := newStack(t, "KV_BACKEND_TIMEOUT=1s")
	load := startTraffic(t, "k")
	var begin time.Time
	for range rounds(1, 5) {
		load.more(t, 200)
		s.backend.freeze(t)
		failed := load.counts().refused
		eventually(t, "requests fail", func() error {
			if got := load.counts().refused; got < failed+trafficClients {
				return fmt.Errorf("%d", got-failed)
			}
			return nil
		})
		begin = time.Now()
		s.backend.signal(t, syscall.SIGCONT)
		s.waitHealthy(t)
	}
	load.more(t, 200)
	table.survived(t, load, begin)
}

// fullDisk fills a small tmpfs under the database and empties it again.
func fullDisk(t *testing.T, table *faultTable) {
	dir := t.TempDir()
	if output, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Logf("no tmpfs can be mounted here, so there is only the disk without space below: %v: %s", err, output)
		return
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	s := newStack(t, "KV_DATABASE_URL=sqlite:"+filepath.Join(dir, "kv_store.db"))
	load := startTraffic(t, "k")
	load.more(t, 200)
	ballast := filepath.Join(dir, "ballast")
	_ = os.WriteFile(ballast, make([]byte, 24<<20), 0o600) // as much as fits
	eventually(t, "a write gets 507", func() error {
		answer, err := tryRequest(webAddress, http.MethodPut, "/put/large", nil, `{"value":"`+strings.Repeat("x", 512<<10)+`"}`)
		if err == nil && answer.status != http.StatusInsufficientStorage {
			err = fmt.Errorf("%d %.200s", answer.status, answer.body)
		}
		return err
	})
	get(t, "/get/k-0").wantStatus(t, http.StatusOK)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	load.more(t, 200)
	table.survived(t, load, begin)
	s.backend.kill(t) // before the directory is removed
}
