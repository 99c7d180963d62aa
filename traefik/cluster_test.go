package traefik_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	clusterBackends = []string{"127.0.0.1:8081", "127.0.0.1:8082", "127.0.0.1:8083"}
	clusterGateways = []string{"127.0.0.1:8011", "127.0.0.1:8012"}
)

// TestUpCluster runs "up --cluster": two gateways, three backends, PostgreSQL and a synchronous
// standby. It kills some of them, the primary too, and takes the standby away: what can be answered
// without them is, and all comes back.
func TestUpCluster(t *testing.T) {
	dir := clusterDir(t)
	launcher := startCluster(t, dir)
	for _, line := range []string{"initdb makes a new database cluster in ", "pg_basebackup copies the primary to "} {
		if len(launcher.log.lines(line)) != 1 {
			t.Errorf("no line %q", line)
		}
	}
	put(t, "k", "1").wantStatus(t, http.StatusOK)
	readEverywhere(t, "k", "1")

	t.Run("a backend and a gateway are killed", func(t *testing.T) { testKilled(t, launcher) })
	t.Run("the primary is killed", func(t *testing.T) {
		if err := syscall.Kill(clusterPids(t, launcher)["primary"], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		writesWork(t, "3")
		readEverywhere(t, "k", "3")
	})
	t.Run("the standby is gone", func(t *testing.T) { testNoStandby(t, launcher, dir) })

	pids := clusterPids(t, launcher)
	launcher.signal(t, syscall.SIGINT)
	if code := launcher.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	wantNoneLeft(t, pids)
	wantOrder(t, launcher, "traefik", "gateway-2", "gateway-1", "backend-3", "backend-2", "backend-1", "standby", "primary")
	wantSecret(t, launcher, filepath.Join(dir, "password"))

	t.Run("started again", func(t *testing.T) {
		launcher := startCluster(t, dir)
		if len(launcher.log.lines("initdb makes"))+len(launcher.log.lines("pg_basebackup copies")) > 0 {
			t.Error("files were made again")
		}
		readEverywhere(t, "k", "4")
	})
}

// clusterDir returns a new directory for data, which the user of PostgreSQL can enter.
func clusterDir(t *testing.T) string {
	t.Helper()
	parent, err := os.MkdirTemp("", "kv-cluster-") //nolint:usetesting // that is below one that only root can enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(parent) }) // a leftover in the temporary directory is harmless
	if err := os.Chmod(parent, 0o711); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(parent, "cluster")
}

// startCluster returns when the launcher reports that everything is ready.
func startCluster(t *testing.T, dir string) *process {
	t.Helper()
	launcher := newProcess(t, "up", programs.launcher, []string{"--cluster", dir}, []string{
		"KV_BACKEND_BIN=" + programs.backend, "KV_GATEWAY_BIN=" + programs.gateway, "KV_TRAEFIK_BIN=" + programs.traefik,
	})
	launcher.start(t)
	for _, line := range []string{"standby   | ", "ready in "} { // each takes its time
		eventually(t, "the launcher says "+line, func() error {
			if len(launcher.log.lines(line)) == 0 {
				return errors.New("no such line")
			}
			return nil
		})
	}
	return launcher
}

// readEverywhere reads the key at once at every backend and through each gateway.
func readEverywhere(t *testing.T, key, value string) {
	t.Helper()
	for _, address := range append(clusterGateways, clusterBackends...) {
		answer := request(t, address, http.MethodGet, "/get/"+key, nil, "").wantStatus(t, http.StatusOK)
		if !strings.Contains(answer.body, `"value":`+value+`,`) {
			t.Errorf("%s: %s, want the value %s", address, answer.body, value)
		}
	}
}

// clusterPids returns the processes of the launcher by the address or directory that they were started with.
func clusterPids(t *testing.T, launcher *process) map[string]int {
	t.Helper()
	pids := map[string]int{}
	for _, pid := range children(t, launcher.cmd.Process.Pid) {
		name := programOf(t, pid)
		files := fmt.Sprintf("/proc/%d/", pid)
		environment, _ := os.ReadFile(files + "environ") // it may have ended
		for variable := range strings.SplitSeq(string(environment), "\x00") {
			key, value, _ := strings.Cut(variable, "=")
			if key == "KV_"+strings.ToUpper(name)+"_ADDR" {
				name = value
			}
		}
		arguments, _ := os.ReadFile(files + "cmdline")
		if fields := strings.Split(string(arguments), "\x00"); len(fields) > 2 && fields[1] == "-D" {
			name = filepath.Base(fields[2])
		}
		pids[name] = pid
	}
	if len(pids) != 8 {
		t.Fatalf("the launcher runs %v", pids)
	}
	return pids
}

func testKilled(t *testing.T, launcher *process) {
	pids := clusterPids(t, launcher)
	backend, gateway := clusterBackends[0], clusterGateways[1] // writes go to the first backend
	for _, victim := range []string{backend, gateway} {
		if err := syscall.Kill(pids[victim], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	// The gateway may have sent a request just then, and does not know what became of it. Traefik needs until
	// its next health check to know that a gateway is gone.
	eventually(t, "writes go to another backend", func() error {
		answer := request(t, clusterGateways[0], http.MethodPut, "/put/k", nil, `{"value":2}`)
		if answer.status != http.StatusOK {
			t.Log(answer.status, answer.body)
			return errors.New(answer.body)
		}
		return nil
	})
	answered := 0
	eventually(t, "Traefik sends all to the gateway that lives", func() error {
		answer := get(t, "/get/k")
		if answer.status != http.StatusOK {
			answered = 0
			return fmt.Errorf("%d %s", answer.status, answer.body)
		}
		if answered++; answered < 20 {
			return errors.New("not yet often enough")
		}
		return nil
	})
	for _, address := range []string{backend, gateway} {
		eventually(t, address+" is back", func() error {
			answer, err := tryRequest(address, http.MethodGet, "/get/k", nil, "")
			if err == nil && answer.status != http.StatusOK {
				err = fmt.Errorf("%d %s", answer.status, answer.body)
			}
			return err
		})
	}
	put(t, "k", "3").wantStatus(t, http.StatusOK)
	readEverywhere(t, "k", "3")
	for _, name := range []string{"backend-1", "gateway-2"} {
		if len(launcher.log.lines(name+" exited (signal: killed); starting it again in 1s")) != 1 {
			t.Errorf("no line that %s is started again", name)
		}
	}
}

// testNoStandby takes the files of the standby away, so that it does not start again. Meanwhile writes
// wait, and reads are answered.
func testNoStandby(t *testing.T, launcher *process, dir string) {
	files, away := filepath.Join(dir, "standby"), filepath.Join(dir, "away")
	if err := os.Rename(files, away); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(clusterPids(t, launcher)["standby"], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the standby has failed to start", func() error {
		if len(launcher.log.lines("standby exited (exit status ")) == 0 {
			return errors.New("no such line")
		}
		return nil
	})
	written := make(chan response, 1)
	go func() {
		answer, err := tryRequest(webAddress, http.MethodPut, "/put/k", nil, `{"value":4}`)
		if err != nil {
			answer.body = err.Error()
		}
		written <- answer
	}()
	select {
	case answer := <-written:
		t.Errorf("a write was answered without the standby: %d %s", answer.status, answer.body)
	case <-time.After(time.Second):
	}
	readEverywhere(t, "k", "3")
	eventually(t, "/health tells of it", func() error {
		answer := get(t, "/health").wantStatus(t, http.StatusOK)
		if !strings.Contains(answer.body, `"detail":"No synchronous standby is connected`) {
			return errors.New(answer.body)
		}
		return nil
	})
	if err := os.Rename(away, files); err != nil {
		t.Fatal(err)
	}
	answer := <-written
	t.Log(answer.status, answer.body)
	if answer.status != http.StatusOK && !strings.Contains(answer.body, `"outcome_unknown"`) {
		t.Errorf("the write: %d %s", answer.status, answer.body)
	}
	writesWork(t, "4")
	readEverywhere(t, "k", "4")
	if body := get(t, "/health").body; !strings.Contains(body, `"synchronous_standbys":1`) {
		t.Errorf("health: %s", body)
	}
}

// writesWork returns when a write of the value is answered with 200.
func writesWork(t *testing.T, value string) {
	t.Helper()
	eventually(t, "writes are answered", func() error {
		if answer := put(t, "k", value); answer.status != http.StatusOK {
			return fmt.Errorf("%d %s", answer.status, answer.body)
		}
		return nil
	})
}

// wantOrder fails unless the programs wrote their last lines in this order.
func wantOrder(t *testing.T, p *process, names ...string) {
	t.Helper()
	last, before := "", -1
	for _, name := range names {
		at := strings.LastIndex(p.log.String(), "\n"+name+" ")
		if at < before {
			t.Errorf("%s ended before %s", name, last)
		}
		last, before = name, at
	}
}

// wantSecret fails unless only the user can read the file, and the log does not show it.
func wantSecret(t *testing.T, p *process, file string) {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 || strings.Contains(p.log.String(), strings.TrimSpace(string(secret))) {
		t.Errorf("%s has the mode %#o, or is in the log", file, info.Mode())
	}
}
