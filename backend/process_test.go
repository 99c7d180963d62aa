package main_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kvstore/backend/database/postgres/postgrestest"
	"kvstore/internal/telemetry/telemetrytest"
)

// patience bounds every wait. Only a failing test waits that long.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	code := postgrestest.Run(m)
	if dir, err := builds(); err == nil {
		os.RemoveAll(dir)
	}
	printFaults()
	os.Exit(code)
}

// builds is the directory of the programs that tests start as processes and kill. It outlives
// the test that built them.
var builds = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "kvstore-backend-test") })

// The programs are built once for all tests.
var (
	binary        = sync.OnceValues(func() (string, error) { return build("backend", ".") })
	gatewayBinary = sync.OnceValues(func() (string, error) { return build("gateway", "../gateway") })
)

// build builds a program under that name.
func build(name, directory string, flags ...string) (string, error) {
	dir, err := builds()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	args := append([]string{"build", "-buildvcs=false", "-o", path}, flags...)
	if raceEnabled() { // otherwise the C code would have to be compiled again
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, directory)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// raceEnabled reports whether the test itself was built with the race detector.
func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, setting := range info.Settings {
		if setting.Key == "-race" {
			return setting.Value == "true"
		}
	}
	return false
}

// childLog keeps the output of a process, and sends its address once it listens.
type childLog struct {
	telemetrytest.Journal
	address chan string
	sent    bool // used only by Write, in one goroutine
}

func (l *childLog) Write(p []byte) (int, error) {
	n, err := l.Journal.Write(p)
	if !l.sent {
		var address string
		if address, l.sent = listening(l.String()); l.sent {
			l.address <- address
		}
	}
	return n, err
}

// A site is where a program is reached.
type site struct {
	url    string
	client *http.Client
}

func newSite() site {
	return site{client: &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
}

// process is a program that runs as a separate process.
type process struct {
	site
	log   *childLog
	cmd   *exec.Cmd
	ended chan struct{}
	// faulty allows errors in the log, which the test causes.
	faulty bool
}

// environment returns the environment of a backend, without the settings of the caller.
func environment(database, cacheMaxKeys string) []string {
	var env []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "KV_") {
			env = append(env, variable)
		}
	}
	return append(env,
		"KV_BACKEND_ADDR=127.0.0.1:0", "KV_LOG_FORMAT=json", "KV_LOG_LEVEL=info",
		"KV_DATABASE_URL=sqlite:"+database, "KV_CACHE_MAX_KEYS="+cacheMaxKeys)
}

// spawn starts a backend and waits until it listens. The end of the test kills it, and
// prints its log if the test has failed.
func spawn(t *testing.T, env []string) *process {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return spawnProgram(t, path, env)
}

// spawnProgram is spawn for any of the programs.
func spawnProgram(t *testing.T, path string, env []string) *process {
	t.Helper()
	p := &process{
		site: newSite(), log: &childLog{address: make(chan string, 1)}, ended: make(chan struct{}),
		cmd: exec.Command(path),
	}
	// With one writer for both, exec uses one goroutine.
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() { p.cleanup(t) })
	select {
	case address := <-p.log.address:
		p.url = "http://" + address
	case <-p.ended:
		t.Fatalf("the program ended: %v", p.cmd.ProcessState)
	case <-time.After(patience):
		t.Fatal("the program does not listen")
	}
	return p
}

func (p *process) cleanup(t *testing.T) {
	p.kill(t)
	log := strings.ReplaceAll(p.log.String(), "runtime/panic.go", "") // it is in many stacks
	for _, sign := range []string{"DATA RACE", "panic", `"level":"ERROR"`} {
		if p.faulty && strings.Contains(sign, "ERROR") {
			continue
		}
		if strings.Contains(log, sign) {
			t.Errorf("the log of process %d has %q", p.cmd.Process.Pid, sign)
		}
	}
	if t.Failed() {
		t.Logf("log of process %d:\n%s", p.cmd.Process.Pid, p.log.String())
	}
}

// kill kills the process, unless it has ended, and waits for it.
func (p *process) kill(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Kill()
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatalf("process %d has not ended", p.cmd.Process.Pid)
	}
	p.client.CloseIdleConnections()
}

// exchange makes a request. After an error, it is unknown what the process did, unless
// unsent reports true.
func (s site) exchange(ctx context.Context, method, path, body string) (int, []byte, error) {
	return s.exchangeWith(ctx, method, path, body, http.Header{})
}

func (s site) exchangeWith(ctx context.Context, method, path, body string, header http.Header) (int, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Header = header
	response, err := s.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return response.StatusCode, data, err
}

// unsent reports whether exchange failed because there was no connection.
func unsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// check runs the command that checks the database file.
func (p *process) check(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, p.cmd.Path, "check")
	// By default, a program with the race detector sleeps for a second before it exits.
	command.Env = append(slices.Clip(p.cmd.Env), "GORACE=atexit_sleep_ms=0")
	if out, err := command.CombinedOutput(); err != nil || !strings.Contains(string(out), "is sound") {
		t.Errorf("check: %v\n%s", err, out)
	}
}
