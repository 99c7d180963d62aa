package traefik_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// newLauncher returns a process of internal/up with a new database.
func newLauncher(t *testing.T, env ...string) *process {
	t.Helper()
	env = append([]string{
		"KV_DATABASE_URL=sqlite:" + filepath.Join(t.TempDir(), "kv_store.db"),
		"KV_BACKEND_BIN=" + programs.backend,
		"KV_GATEWAY_BIN=" + programs.gateway,
		"KV_TRAEFIK_BIN=" + programs.traefik,
	}, env...)
	return newProcess(t, "up", programs.launcher, nil, env)
}

// startLauncher returns when the launcher reports that the service is ready. pids are those of
// the three programs, by name.
func startLauncher(t *testing.T, env ...string) (launcher *process, pids map[string]int) {
	t.Helper()
	launcher = newLauncher(t, env...)
	launcher.start(t)
	eventually(t, "the launcher is ready", func() error {
		if len(launcher.log.lines("ready in ")) == 0 {
			return errors.New("no such line")
		}
		return nil
	})
	pids = map[string]int{}
	for _, pid := range children(t, launcher.cmd.Process.Pid) {
		pids[programOf(t, pid)] = pid
	}
	if len(pids) != 3 || pids["backend"] == 0 || pids["gateway"] == 0 || pids["traefik"] == 0 {
		t.Fatalf("the launcher runs %v", pids)
	}
	return launcher, pids
}

// programOf returns the name of the program that process pid runs.
func programOf(t *testing.T, pid int) string {
	t.Helper()
	path, err := filepath.EvalSymlinks(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		t.Fatal(err)
	}
	for name, program := range map[string]string{"backend": programs.backend, "gateway": programs.gateway, "traefik": programs.traefik} {
		if resolved, err := filepath.EvalSymlinks(program); err == nil && resolved == path {
			return name
		}
	}
	return path
}

// wantNoneLeft fails the test unless all of pids have ended.
func wantNoneLeft(t *testing.T, pids map[string]int) {
	t.Helper()
	for name, pid := range pids {
		eventually(t, name+" has ended", func() error {
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("process %d still exists (%w)", pid, err)
			}
			return nil
		})
	}
}

func TestLauncherStopsOnCtrlC(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(s.String(), func(t *testing.T) {
			launcher, pids := startLauncher(t)
			line := launcher.log.lines("ready in ")[0]
			t.Log(line)
			const want = `^ready in [0-9]+\.[0-9]s: http://localhost:8000  \(docs: http://localhost:8000/docs, stop: Ctrl-C\)$`
			if !regexp.MustCompile(want).MatchString(line) {
				t.Errorf("line %q", line)
			}
			put(t, "k", "1").wantStatus(t, http.StatusOK)
			launcher.signal(t, s)
			if code := launcher.wait(t); code != 0 {
				t.Errorf("exit code %d", code)
			}
			wantNoneLeft(t, pids)
			for _, name := range []string{"backend | ", "gateway | ", "traefik | "} {
				if len(launcher.log.lines(name)) == 0 {
					t.Errorf("no line of %s", name)
				}
			}
		})
	}
}

func TestLauncherStopsWhenAProgramDies(t *testing.T) {
	for victim, message := range map[string]string{
		"backend": "backend exited (signal: killed); stopping gateway and traefik",
		"gateway": "gateway exited (signal: killed); stopping backend and traefik",
		"traefik": "traefik exited (signal: killed); stopping backend and gateway",
	} {
		t.Run(victim, func(t *testing.T) {
			launcher, pids := startLauncher(t)
			if err := syscall.Kill(pids[victim], syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if code := launcher.wait(t); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			wantNoneLeft(t, pids)
			if !strings.Contains("\n"+launcher.log.String(), "\n"+message+"\n") {
				t.Errorf("no line %q", message)
			}
		})
	}
}

// Even if the launcher gets SIGKILL, it leaves no program behind.
func TestNothingOutlivesTheLauncher(t *testing.T) {
	launcher, pids := startLauncher(t)
	launcher.kill(t)
	wantNoneLeft(t, pids)
}

func TestLauncherReportsATakenPort(t *testing.T) {
	for part, address := range map[string]string{
		"traefik": ":8000", "gateway": "127.0.0.1:8001", "backend": "127.0.0.1:8080",
	} {
		t.Run(part, func(t *testing.T) {
			listener, err := net.Listen("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			launcher := newLauncher(t)
			launcher.start(t)
			if code := launcher.wait(t); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			if want := part + " cannot listen on " + address + ": the port is taken"; len(launcher.log.lines(want)) == 0 {
				t.Errorf("no line with %q", want)
			}
		})
	}
}

// A program with an invalid setting exits, and so all of them do.
func TestLauncherWithAnInvalidSetting(t *testing.T) {
	launcher := newLauncher(t, "KV_CACHE_MAX_KEYS=none")
	launcher.start(t)
	if code := launcher.wait(t); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if len(launcher.log.lines("backend exited (exit status 2); stopping ")) == 0 {
		t.Error("no line that the backend exited")
	}
}
