package traefik_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait. Only a failing test waits that long.
const patience = 30 * time.Second

// eventually polls check until it returns nil. After patience, the test fails with its last
// error.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.After(patience)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		}
	}
}

// A process is a program that the test can start and stop repeatedly. Its log is printed if the
// test fails. A panic in it is a failure.
type process struct {
	name string
	path string
	args []string
	env  []string // added to the environment of the test
	log  journal

	cmd  *exec.Cmd
	done chan struct{} // closed after it has ended
}

// newProcess returns a process that is not started yet. If it runs at the end of the test, it
// is killed.
func newProcess(t *testing.T, name, path string, args, env []string) *process {
	t.Helper()
	p := &process{name: name, path: path, args: args, env: env}
	t.Cleanup(func() {
		if p.cmd != nil {
			_ = p.cmd.Process.Signal(syscall.SIGCONT) // it may be stopped
			p.kill(t)
		}
		for _, line := range p.log.lines("panic") {
			t.Errorf("%s: %.500s", p.name, line)
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", p.name, p.log.String())
		}
	})
	return p
}

func (p *process) start(t *testing.T) {
	t.Helper()
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Dir = root
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	p.done = done
	cmd := p.cmd
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%s: %s: %v", p.name, s, err)
	}
}

// freeze sends SIGSTOP and waits until every thread has stopped.
func (p *process) freeze(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGSTOP)
	eventually(t, p.name+" has stopped", func() error {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
		if err != nil {
			return err
		}
		for _, thread := range threads {
			stat, err := os.ReadFile(thread)
			if err != nil {
				return err
			}
			if _, state, _ := strings.Cut(string(stat), ") "); !strings.HasPrefix(state, "T") {
				return fmt.Errorf("%s: %s", thread, stat)
			}
		}
		return nil
	})
}

// kill kills the process, if it has not ended.
func (p *process) kill(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Kill()
	p.wait(t)
}

// stop stops the process with SIGTERM and returns its exit code.
func (p *process) stop(t *testing.T) int {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	return p.wait(t)
}

// wait waits until the process has ended and returns its exit code, or -1 if a signal ended it.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatalf("%s has not ended within %s", p.name, patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

// residentBytes returns the resident memory of the process (VmRSS).
func (p *process) residentBytes(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Skipf("no /proc: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		if text, found := strings.CutPrefix(line, "VmRSS:"); found {
			kilobytes, err := strconv.Atoi(strings.Fields(text)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kilobytes << 10
		}
	}
	t.Fatalf("no VmRSS in %s", status)
	return 0
}

// children returns the processes that pid has started.
func children(t *testing.T, pid int) []int {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil || len(files) == 0 {
		t.Skipf("no /proc: %v", err)
	}
	var pids []int
	for _, file := range files {
		text, _ := os.ReadFile(file) // the thread may have ended
		for _, field := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, child)
		}
	}
	return pids
}

// A journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
	most int // newest bytes to keep at least; 0 keeps all
}

// keep makes the journal drop old lines, but keep at least the newest bytes.
func (j *journal) keep(most int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.most = most
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.most > 0 && j.text.Len()+len(p) > 2*j.most {
		j.shortenLocked()
	}
	return j.text.Write(p)
}

// shortenLocked drops the older half, except for lines about a panic.
func (j *journal) shortenLocked() {
	old := bytes.Clone(j.text.Next(j.text.Len() - j.most))
	rest := bytes.Clone(j.text.Bytes())
	j.text.Reset()
	for line := range bytes.Lines(old) {
		if bytes.Contains(line, []byte("panic")) {
			j.text.Write(line)
		}
	}
	j.text.Write(rest)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// lines returns the lines that contain text.
func (j *journal) lines(text string) []string {
	var found []string
	for line := range strings.Lines(j.String()) {
		if strings.Contains(line, text) {
			found = append(found, strings.TrimSuffix(line, "\n"))
		}
	}
	return found
}
