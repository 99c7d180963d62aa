// Package supervise runs several programs as one: they start together, and all of them are
// stopped as soon as one ends or the caller asks for it.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// outputDelay bounds the wait for the output of a child that has ended, if a process that
// it started still has the output open.
const outputDelay = 2 * time.Second

// A Program is one child process.
type Program struct {
	// Name is used in messages and as the prefix of the program's output.
	Name string
	// Path is the executable. Args are its arguments, without the name.
	Path string
	Args []string
	// Dir is its working directory, by default the caller's.
	Dir string
	// Env is its whole environment, by default the caller's.
	Env []string
	// StopTimeout is the time from SIGTERM to SIGKILL.
	StopTimeout time.Duration
}

// A Group describes the programs to run.
type Group struct {
	// Programs are started in this order and stopped in reverse order.
	Programs []Program
	// Output receives the output of the programs, line by line and prefixed with their
	// names, and a line about each program that ends unexpectedly.
	Output io.Writer
	// Ready, if not nil, is called once after all programs have started. The line that it
	// returns is written to Output, and an error stops the programs. Its context ends when
	// the programs have to stop.
	Ready func(context.Context) (string, error)
}

// ErrNotStopped reports a program that was killed because it did not end within its
// StopTimeout.
var ErrNotStopped = errors.New("did not stop in time")

// An ExitError reports a program that ended by itself.
type ExitError struct {
	Name  string
	State string // as in "exit status 1" or "signal: killed"
}

func (e *ExitError) Error() string { return fmt.Sprintf("%s exited (%s)", e.Name, e.State) }

// Run starts the programs and returns when all of them have ended. It returns nil if ctx
// ended and all of them stopped in time. Otherwise the error is what happened first: an
// *ExitError, the error of Ready, a program that could not be started, or ErrNotStopped.
//
// Each program has its own process group, so that Ctrl-C in the terminal reaches only the
// caller. On Linux, no program outlives the caller, however it ends.
func (g *Group) Run(ctx context.Context) error {
	// Linux kills the child when the thread that started it ends, so keep the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	output := newLines(g.Output)
	exited := make(chan *child, len(g.Programs))
	var children []*child
	for _, program := range g.Programs {
		c, err := start(program, output.prefixed(program.Name, g.nameWidth()), exited)
		if err != nil {
			return errors.Join(err, stop(children, output))
		}
		children = append(children, c)
	}
	cause := g.watch(ctx, children, exited, output)
	return errors.Join(cause, stop(children, output))
}

// watch returns when the children have to stop, with the reason, or nil if ctx ended.
func (g *Group) watch(ctx context.Context, children []*child, exited <-chan *child, output *lines) error {
	readyContext, cancel := context.WithCancel(ctx)
	ready := make(chan error, 1)
	go func() {
		defer close(ready)
		ready <- g.ready(readyContext, output)
	}()
	defer func() {
		cancel()
		for range ready { // wait until it is closed
		}
	}()

	pending := ready // nil after it has sent its value
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case c := <-exited:
			err = &ExitError{Name: c.name, State: c.cmd.ProcessState.String()}
		case err = <-pending:
			pending = nil
			if err == nil || ctx.Err() != nil {
				continue
			}
		}
		output.printf("%s%s", err, stopping(children))
		return err
	}
}

func (g *Group) ready(ctx context.Context, output *lines) error {
	if g.Ready == nil {
		return nil
	}
	line, err := g.Ready(ctx)
	if err == nil {
		output.printf("%s", line)
	}
	return err
}

func (g *Group) nameWidth() int {
	width := 0
	for _, program := range g.Programs {
		width = max(width, len(program.Name))
	}
	return width
}

// A child is a started Program.
type child struct {
	name        string
	stopTimeout time.Duration
	cmd         *exec.Cmd
	done        chan struct{} // closed after it has ended and its output was copied
}

// start starts a child, and sends it to exited when it has ended. The channel must have
// room.
func start(program Program, output *prefixWriter, exited chan<- *child) (*child, error) {
	cmd := exec.Command(program.Path, program.Args...) //nolint:gosec,noctx // the caller chooses the program; a context would kill it
	cmd.Dir, cmd.Env = program.Dir, program.Env
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = processAttributes()
	cmd.WaitDelay = outputDelay
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program.Name, err)
	}
	c := &child{name: program.Name, stopTimeout: program.StopTimeout, cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // ProcessState has the result
		output.flush()
		close(c.done)
		exited <- c
	}()
	return c, nil
}

// stop stops the children one after the other, in reverse order, and returns when all have
// ended.
func stop(children []*child, output *lines) error {
	var errs []error
	for i := len(children) - 1; i >= 0; i-- {
		if err := children[i].stop(); err != nil {
			output.printf("%s", err)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (c *child) stop() error {
	if c.ended() {
		return nil
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // fails only if the process has ended
	timeout := time.NewTimer(c.stopTimeout)
	defer timeout.Stop()
	select {
	case <-c.done:
		return nil
	case <-timeout.C:
	}
	_ = c.cmd.Process.Kill()
	<-c.done
	return fmt.Errorf("%s %w: killed after %s", c.name, ErrNotStopped, c.stopTimeout)
}

func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// stopping names the children that are still running: "; stopping gateway and traefik".
func stopping(children []*child) string {
	var names []string
	for _, c := range children {
		if !c.ended() {
			names = append(names, c.name)
		}
	}
	switch len(names) {
	case 0:
		return ""
	case 1:
		return "; stopping " + names[0]
	}
	last := len(names) - 1
	return "; stopping " + strings.Join(names[:last], ", ") + " and " + names[last]
}
