// Package supervise runs a few programs as one: they start together, and as
// soon as one of them ends, or the caller asks for it, all of them end.
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

// outputDelay bounds how long a child that ended is waited for because a
// process that it started still holds its output open.
const outputDelay = 2 * time.Second

// A Program is one child process.
type Program struct {
	// Name is what messages and the prefix of the program's output call it.
	Name string
	// Path is the executable and Args are its arguments, without the name.
	Path string
	Args []string
	// Dir is its working directory; empty is that of the caller.
	Dir string
	// Env is its whole environment; nil is that of the caller.
	Env []string
	// StopTimeout is the time from SIGTERM to SIGKILL.
	StopTimeout time.Duration
}

// A Group is what Run runs.
type Group struct {
	// Programs are started in this order and stopped in the reverse one.
	Programs []Program
	// Output gets what the programs write, line by line with their names in
	// front, and a line about each program that ends when it should not.
	Output io.Writer
	// Ready, if not nil, is called once after all were started, and the line
	// that it returns is written to Output. Its context ends when the programs
	// are to stop. An error of it stops them too.
	Ready func(context.Context) (string, error)
}

// ErrNotStopped reports a program that had to be killed, since it had not ended
// within its StopTimeout.
var ErrNotStopped = errors.New("did not stop in time")

// An ExitError reports a program that ended by itself.
type ExitError struct {
	Name  string
	State string // as in "exit status 1" or "signal: killed"
}

func (e *ExitError) Error() string { return fmt.Sprintf("%s exited (%s)", e.Name, e.State) }

// Run starts the programs and returns when all of them have ended: nil after
// ctx ended and each of them stopped in time. Otherwise the error says what
// came first: an *ExitError, the error of Ready, that of a program that could
// not be started, or ErrNotStopped.
//
// Each program is in a process group of its own, so that a Ctrl-C at the
// terminal reaches the caller only. On Linux no program outlives the caller,
// however that ends.
func (g *Group) Run(ctx context.Context) error {
	// Linux ties "kill the child when the parent dies" to the thread that
	// started the child. This keeps that thread.
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

// watch returns when the children are to be stopped, and why: nil when ctx
// ended.
func (g *Group) watch(ctx context.Context, children []*child, exited <-chan *child, output *lines) error {
	readyContext, cancel := context.WithCancel(ctx)
	ready := make(chan error, 1)
	go func() {
		defer close(ready)
		ready <- g.ready(readyContext, output)
	}()
	defer func() {
		cancel()
		for range ready { // until it is closed
		}
	}()

	pending := ready // nil after its one value
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
	done        chan struct{} // closed after it ended and its output was copied
}

// start sends the child on exited once it has ended; exited must have room.
func start(program Program, output *prefixWriter, exited chan<- *child) (*child, error) {
	cmd := exec.Command(program.Path, program.Args...) //nolint:gosec,noctx // it runs what it is told to; a context would kill, not stop
	cmd.Dir, cmd.Env = program.Dir, program.Env
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = processAttributes()
	cmd.WaitDelay = outputDelay
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program.Name, err)
	}
	c := &child{name: program.Name, stopTimeout: program.StopTimeout, cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // ProcessState tells how it ended
		output.flush()
		close(c.done)
		exited <- c
	}()
	return c, nil
}

// stop stops the children one after the other, last started first, and returns
// when all have ended.
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
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it fails only for a process that ended
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

// stopping names the children that still run: "; stopping gateway and traefik".
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
