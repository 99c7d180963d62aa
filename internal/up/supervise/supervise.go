// Package supervise runs several programs as one: they start together, and all of them are
// stopped as soon as the caller asks for it, or one ends that is not to be started again.
package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"slices"
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
	// User is the user that runs it, by default the caller's.
	User *syscall.Credential
	// Ready, if not nil, is called after the program has started. The next one starts when it
	// returns nil; an error stops all. Its context ends when the programs have to stop.
	Ready func(context.Context) error
	// StopSignal asks the program to stop, by default SIGTERM.
	StopSignal syscall.Signal
	// StopTimeout is the time from StopSignal to SIGKILL.
	StopTimeout time.Duration
}

// A Group describes the programs to run.
type Group struct {
	// Programs are started in this order and stopped in reverse order.
	Programs []Program
	// Output receives the output of the programs, line by line and prefixed with their
	// names, and a line about each program that ends unexpectedly.
	Output io.Writer
	// Ready, if not nil, is called once after all programs have started. The text that it
	// returns is written to Output, and an error stops the programs. Its context ends when
	// the programs have to stop.
	Ready func(context.Context) (string, error)
	// RestartDelay, if not 0, is the time after which a program is started again that ends by
	// itself once all are ready. Otherwise, and before that, such a program stops all.
	RestartDelay time.Duration
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
// *ExitError, the error of a Ready, a program that could not be started, or ErrNotStopped.
//
// Each program has its own process group, so that Ctrl-C in the terminal reaches only the
// caller. On Linux, no program outlives the caller, however it ends.
func (g *Group) Run(ctx context.Context) error {
	// Linux kills the child when the thread that started it ends, so keep the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	r := &running{
		group: g, output: newLines(g.Output), exited: make(chan *child, len(g.Programs)),
		children: make([]*child, 0, len(g.Programs)),
	}
	err := r.startAll(ctx)
	if err == nil {
		err = r.keep(ctx)
	}
	return errors.Join(err, r.stop())
}

// running are the children of a group.
type running struct {
	group    *Group
	output   *lines
	exited   chan *child // has room for all
	children []*child    // in the order of the programs
}

// startAll returns when all programs are ready. It returns nil, too, if ctx has ended.
func (r *running) startAll(ctx context.Context) error {
	for _, program := range r.group.Programs {
		c, err := r.start(program)
		if err != nil {
			return err
		}
		r.children = append(r.children, c)
		if program.Ready != nil {
			err = r.await(ctx, program.Ready)
		}
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
	if r.group.Ready == nil {
		return nil
	}
	var text string
	err := r.await(ctx, func(ctx context.Context) (err error) {
		text, err = r.group.Ready(ctx)
		return err
	})
	if text != "" {
		r.output.printf("%s", text)
	}
	return err
}

// await returns what ready returns, or an *ExitError if a child ends before, or nil if ctx
// ends before.
func (r *running) await(ctx context.Context, ready func(context.Context) error) error {
	waiting, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		defer close(done)
		done <- ready(waiting)
	}()
	defer func() {
		cancel()
		for range done { // wait until it is closed
		}
	}()
	var err error
	select {
	case <-ctx.Done():
		return nil
	case c := <-r.exited:
		err = c.exitError()
	case err = <-done:
		if err == nil || ctx.Err() != nil {
			return nil
		}
	}
	r.output.printf("%s%s", err, stopping(r.children))
	return err
}

// keep returns nil when ctx ends, or why the children have to stop.
func (r *running) keep(ctx context.Context) error {
	delay := r.group.RestartDelay
	again := make(chan int, len(r.children)) // has room for all
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-r.exited:
			err := c.exitError()
			if delay == 0 {
				r.output.printf("%s%s", err, stopping(r.children))
				return err
			}
			r.output.printf("%s; starting it again in %s", err, delay)
			i := slices.Index(r.children, c)
			time.AfterFunc(delay, func() { again <- i })
		case i := <-again:
			c, err := r.start(r.group.Programs[i])
			if err != nil {
				r.output.printf("%s%s", err, stopping(r.children))
				return err
			}
			r.children[i] = c
		}
	}
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
	Program

	cmd  *exec.Cmd
	done chan struct{} // closed after it has ended and its output was copied
}

// start starts a child, and sends it to r.exited when it has ended.
func (r *running) start(program Program) (*child, error) {
	cmd := exec.Command(program.Path, program.Args...) //nolint:gosec,noctx // the caller chooses the program; a context would kill it
	cmd.Dir, cmd.Env = program.Dir, program.Env
	output := r.output.prefixed(program.Name, r.group.nameWidth())
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = processAttributes()
	cmd.SysProcAttr.Credential = program.User
	cmd.WaitDelay = outputDelay
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program.Name, err)
	}
	c := &child{Program: program, cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // ProcessState has the result
		output.flush()
		close(c.done)
		r.exited <- c
	}()
	return c, nil
}

func (c *child) exitError() error {
	return &ExitError{Name: c.Name, State: c.cmd.ProcessState.String()}
}

// stop stops the children one after the other, in reverse order, and returns when all have
// ended.
func (r *running) stop() error {
	var errs []error
	for _, c := range slices.Backward(r.children) {
		if err := c.stop(); err != nil {
			r.output.printf("%s", err)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (c *child) stop() error {
	if c.ended() {
		return nil
	}
	_ = c.cmd.Process.Signal(cmp.Or(c.StopSignal, syscall.SIGTERM)) // fails only if the process has ended
	timeout := time.NewTimer(c.StopTimeout)
	defer timeout.Stop()
	select {
	case <-c.done:
		return nil
	case <-timeout.C:
	}
	_ = c.cmd.Process.Kill()
	<-c.done
	return fmt.Errorf("%s %w: killed after %s", c.Name, ErrNotStopped, c.StopTimeout)
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
			names = append(names, c.Name)
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
