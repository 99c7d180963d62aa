package traefik_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A machineClock is the clock of a backend that was built with another file instead of the
// one that reads the clock.
type machineClock struct{ file string }

// newMachineClock makes the stacks of this test use such a backend.
func newMachineClock(t *testing.T) *machineClock {
	t.Helper()
	dir := t.TempDir()
	path := func(name string) string {
		absolute, err := filepath.Abs(name)
		if err != nil {
			t.Fatal(err)
		}
		return absolute
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		path(root + "/backend/store/systemclock.go"): path("testdata/systemclock.go.txt"),
	}})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	backend := filepath.Join(dir, "backend")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-overlay", filepath.Join(dir, "overlay.json"), "-o", backend, "./backend")
	build.Dir = root
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	real := programs.backend
	programs.backend = backend
	t.Cleanup(func() { programs.backend = real })
	c := &machineClock{file: filepath.Join(dir, "clock")}
	c.set(t, 0)
	return c
}

func (c *machineClock) set(t *testing.T, offset time.Duration) {
	t.Helper()
	next := c.file + ".next"
	err := os.WriteFile(next, fmt.Append(nil, int(offset.Seconds())), 0o600)
	if err == nil {
		err = os.Rename(next, c.file)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// clockSteps sets the backend's clock forward and back under load. Timestamps must never
// decrease, reads by time must have the same results as before, expired keys must stay
// expired and others exist, and keys that are written after a step back must expire too. The
// same must hold after a kill.
func clockSteps(t *testing.T, table *faultTable) {
	clock := newMachineClock(t)
	s := newStack(t, "TEST_CLOCK="+clock.file)
	load := startTraffic(t, "k")
	begin := time.Now()
	for round := range rounds(1, 5) {
		name := func(of string) string { return fmt.Sprintf("%s-%d", of, round) }
		clock.set(t, 0)
		first := decode[putAnswer](t, put(t, name("past"), `"first"`))
		put(t, name("minutes")+"?ttl=10m", `1`).wantStatus(t, http.StatusOK)
		put(t, name("hours")+"?ttl=1000h", `1`).wantStatus(t, http.StatusOK)
		load.more(t, 50)
		for _, offset := range []time.Duration{time.Hour, 0, -time.Hour, 0, -time.Hour} {
			clock.set(t, offset)
			load.more(t, 50)
			at := fmt.Sprintf("/get/%s?at=%f", name("past"), first.Timestamp)
			if read := decode[getAnswer](t, get(t, at)); read.Version != 1 || string(read.Value) != `"first"` {
				t.Errorf("%s with the clock at %s: %+v", at, offset, read)
			}
			if later := decode[putAnswer](t, put(t, name("past"), `"later"`)); later.Timestamp < first.Timestamp {
				t.Errorf("with the clock at %s a version is of %f, before %f", offset, later.Timestamp, first.Timestamp)
			}
			get(t, "/get/"+name("minutes")).wantProblem(t, http.StatusNotFound)
			get(t, "/get/"+name("hours")).wantStatus(t, http.StatusOK)
		}
		s.backend.kill(t) // the clock is an hour behind the store
		s.backend.start(t)
		s.waitHealthy(t)
		get(t, "/get/"+name("minutes")).wantProblem(t, http.StatusNotFound)
		put(t, name("second")+"?ttl=1s", `1`).wantStatus(t, http.StatusOK)
		gets(t, http.MethodGet, "/get/"+name("second"), "", http.StatusNotFound, "key_deleted")
	}
	load.more(t, 50)
	load.stop()
	wantTimesInOrder(t)
	table.survived(t, load, begin)
}

// wantTimesInOrder reads every write from the feed and compares the timestamps.
func wantTimesInOrder(t *testing.T) {
	t.Helper()
	last := decode[databaseStats](t, get(t, "/db/stats")).Revision
	feed := watch(t, webAddress, "?since=0", "")
	defer feed.close()
	for before, revision := 0.0, 1; revision <= last; revision++ {
		e, err := feed.next()
		if err != nil {
			t.Fatalf("before revision %d: %v", revision, err)
		}
		var written struct {
			Key       string
			Revision  int
			Timestamp float64
		}
		if err := json.Unmarshal([]byte(e.data), &written); err != nil || written.Revision != revision {
			t.Fatalf("revision %d: %v, %+v", revision, err, e)
		}
		if written.Timestamp < before {
			t.Errorf("revision %d of %s is of %f, and the one before of %f", revision, written.Key, written.Timestamp, before)
		}
		before = written.Timestamp
	}
}
