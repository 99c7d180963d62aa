package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stopTimeout is how long a program may take to stop before it is killed.
const stopTimeout = 35 * time.Second

// A process is a running program of a side. Its output goes to a file, whose end is included in
// errors.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed after it has ended
}

// A program describes a process to start.
type program struct {
	name string
	path string
	args []string
	dir  string              // for its log, and its working directory
	env  []string            // added to the environment, which has no KV_ variables
	user *syscall.Credential // nil: that of the benchmark

	stdin  *os.File // nil: nothing
	stdout *os.File // nil: the log
}

func start(p program) (*process, error) {
	log := filepath.Join(p.dir, p.name+".log")
	file, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	cmd := exec.Command(p.path, p.args...) //nolint:noctx,gosec // stop ends it; the paths are those of this repository and of installed programs
	cmd.Dir = p.dir
	cmd.Env = append(cleanEnvironment(), p.env...)
	// With files, Wait waits only for the program.
	cmd.Stdout, cmd.Stderr = file, file
	if p.stdin != nil {
		cmd.Stdin = p.stdin
	}
	if p.stdout != nil {
		cmd.Stdout = p.stdout
	}
	// In its own group, Ctrl-C reaches only the benchmark, which then stops it. It dies with the
	// benchmark.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: p.user}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	started := &process{name: p.name, cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(started.done)
	}()
	return started, nil
}

// cleanEnvironment returns the environment without the settings of our programs.
func cleanEnvironment() []string {
	var env []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "KV_") {
			env = append(env, variable)
		}
	}
	return env
}

// stop stops the process and waits until it has ended.
func (p *process) stop() error {
	if p.ended() {
		return fmt.Errorf("%s had ended by itself:\n%s", p.name, p.tail())
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s did not stop within %s", p.name, stopTimeout)
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// tail returns the end of the log.
func (p *process) tail() []byte {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return []byte(err.Error())
	}
	return text[max(0, len(text)-2000):]
}

// cpu returns the user and system time of the process and its children, with those that have ended, in
// steps of 10 ms.
func (p *process) cpu() (time.Duration, error) {
	total, err := cpuOf(p.cmd.Process.Pid)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", p.name, err)
	}
	return total, nil
}

// ticksPerSecond is USER_HZ, which is 100 on all common architectures.
const ticksPerSecond = 100

func cpuOf(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name of the program, in parentheses, may contain spaces.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 15 {
		return 0, errors.New("/proc/PID/stat is too short")
	}
	var total time.Duration
	for _, field := range fields[11:15] { // user and system time, and those of children that have ended
		ticks, err := strconv.Atoi(string(field))
		if err != nil {
			return 0, err
		}
		total += time.Duration(ticks) * time.Second / ticksPerSecond
	}
	for _, child := range childrenOf(pid) {
		more, err := cpuOf(child)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // one that has ended just now counts the next time
			return 0, err
		}
		total += more
	}
	return total, nil
}

func childrenOf(pid int) []int {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	var pids []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for field := range strings.FieldsSeq(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// ownCPU returns the processor time of the benchmark itself.
func ownCPU() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, err
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}
