package supervise_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kvstore/internal/up/supervise"
)

// The test binary is also the child. This variable selects its behaviour.
const behaviour = "SUPERVISE_TEST_CHILD"

// endFile names the file that ends a mortal child.
const endFile = "SUPERVISE_TEST_END"

func TestMain(m *testing.M) {
	switch how := os.Getenv(behaviour); how {
	case "":
		os.Exit(m.Run())
	case "polite": // ends on SIGTERM
		terms := make(chan os.Signal, 1)
		signal.Notify(terms, syscall.SIGTERM)
		fmt.Println("started, own group:", syscall.Getpgrp() == os.Getpid())
		<-terms
		fmt.Print("bye") // no end of line
		os.Exit(0)
	case "stubborn": // ignores SIGTERM
		terms := make(chan os.Signal, 1)
		signal.Notify(terms, syscall.SIGTERM)
		fmt.Println("started")
		for range terms {
		}
	case "mortal": // ends when there is a file
		fmt.Println("started")
		for {
			if _, err := os.Stat(os.Getenv(endFile)); err == nil {
				os.Exit(4)
			}
			time.Sleep(10 * time.Millisecond)
		}
	case "dies":
		fmt.Println("out of luck")
		os.Exit(3)
	}
}

func program(t *testing.T, name, how string) supervise.Program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return supervise.Program{
		Name: name, Path: self, StopTimeout: time.Minute,
		// A child built with the race detector would wait a second before it exits.
		Env: append(os.Environ(), behaviour+"="+how, "GORACE=atexit_sleep_ms=0"),
	}
}

// output collects the output of a group.
type output struct {
	mu      sync.Mutex
	buffer  bytes.Buffer
	changed chan struct{} // closed and replaced at each write
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.buffer.Write(p)
}

func (o *output) lines() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Split(strings.TrimSuffix(o.buffer.String(), "\n"), "\n")
}

// wait returns when all texts are in the output; one that is given twice must be there twice.
func (o *output) wait(ctx context.Context, texts ...string) error {
	wanted := map[string]int{}
	for _, text := range texts {
		wanted[text]++
	}
	for {
		o.mu.Lock()
		all, changed := o.buffer.String(), o.changed
		o.mu.Unlock()
		missing := ""
		for text, count := range wanted {
			if strings.Count(all, text) < count {
				missing = text
			}
		}
		if missing == "" {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%q not in the output: %w", missing, ctx.Err())
		}
	}
}

func testContext(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx, cancel
}

func TestStopsInReverseOrderWhenTheContextEnds(t *testing.T) {
	ctx, cancel := testContext(t)
	out := newOutput()
	group := supervise.Group{
		Programs: []supervise.Program{program(t, "a", "polite"), program(t, "bbb", "polite"), program(t, "c", "polite")},
		Output:   out,
		Ready: func(ctx context.Context) (string, error) {
			err := out.wait(ctx, "a   | started", "bbb | started", "c   | started")
			cancel()
			return "all are up", err
		},
	}
	if err := group.Run(ctx); err != nil {
		t.Fatalf("Run: %v", err)
	}
	want := []string{"all are up", "c   | bye", "bbb | bye", "a   | bye"}
	if diff := cmp.Diff(want, out.lines()[3:]); diff != "" {
		t.Errorf("output after the start (-want +got):\n%s", diff)
	}
}

func TestExitStopsTheOthers(t *testing.T) {
	ctx, _ := testContext(t)
	out := newOutput()
	group := supervise.Group{
		Programs: []supervise.Program{program(t, "backend", "dies"), program(t, "gateway", "polite"), program(t, "traefik", "polite")},
		Output:   out,
		Ready: func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		},
	}
	err := group.Run(ctx)
	var exit *supervise.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("Run: %v, want an ExitError", err)
	}
	if diff := cmp.Diff(&supervise.ExitError{Name: "backend", State: "exit status 3"}, exit); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
	all := "\n" + strings.Join(out.lines(), "\n") + "\n"
	for _, line := range []string{"backend exited (exit status 3); stopping gateway and traefik", "backend | out of luck"} {
		if !strings.Contains(all, "\n"+line+"\n") {
			t.Errorf("no line %q in:%s", line, all)
		}
	}
}

func TestErrNotStopped(t *testing.T) {
	ctx, cancel := testContext(t)
	out := newOutput()
	stubborn := program(t, "stubborn", "stubborn")
	stubborn.StopTimeout = 10 * time.Millisecond
	group := supervise.Group{
		Programs: []supervise.Program{program(t, "polite", "polite"), stubborn},
		Output:   out,
		Ready: func(ctx context.Context) (string, error) {
			err := out.wait(ctx, "polite   | started", "stubborn | started")
			cancel()
			return "", err
		},
	}
	if err := group.Run(ctx); !errors.Is(err, supervise.ErrNotStopped) {
		t.Errorf("Run: %v, want ErrNotStopped", err)
	}
	if err := out.wait(t.Context(), "stubborn did not stop in time: killed after 10ms\n"); err != nil {
		t.Error(err)
	}
}

func TestReadyFails(t *testing.T) {
	ctx, _ := testContext(t)
	out := newOutput()
	errNotHealthy := errors.New("not healthy")
	group := supervise.Group{
		Programs: []supervise.Program{program(t, "a", "polite"), program(t, "b", "polite")},
		Output:   out,
		Ready: func(ctx context.Context) (string, error) {
			if err := out.wait(ctx, "a | started", "b | started"); err != nil {
				return "", err
			}
			return "", errNotHealthy
		},
	}
	if err := group.Run(ctx); !errors.Is(err, errNotHealthy) {
		t.Errorf("Run: %v, want the error of Ready", err)
	}
	if diff := cmp.Diff([]string{"not healthy; stopping a and b", "b | bye", "a | bye"}, out.lines()[2:]); diff != "" {
		t.Errorf("output after the start (-want +got):\n%s", diff)
	}
}

func TestStartFails(t *testing.T) {
	ctx, _ := testContext(t)
	out := newOutput()
	group := supervise.Group{
		Programs: []supervise.Program{program(t, "a", "polite"), {Name: "b", Path: "/does/not/exist"}},
		Output:   out,
	}
	err := group.Run(ctx)
	if err == nil || !strings.Contains(err.Error(), "start b: ") || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Run: %v, want that b cannot be started", err)
	}
}

// A program that ends while the others start stops all, even if later it would be started again.
func TestProgramsWaitForTheOneBefore(t *testing.T) {
	ctx, _ := testContext(t)
	out := newOutput()
	first := program(t, "a", "polite")
	first.Ready = func(ctx context.Context) error {
		if err := out.wait(ctx, "a | started"); err != nil {
			return err
		}
		_, err := out.Write([]byte("a is ready\n"))
		return err
	}
	second := program(t, "b", "dies")
	second.Ready = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	group := supervise.Group{
		Programs: []supervise.Program{first, second, program(t, "c", "polite")}, Output: out, RestartDelay: time.Millisecond,
	}
	var exit *supervise.ExitError
	if err := group.Run(ctx); !errors.As(err, &exit) || exit.Name != "b" {
		t.Fatalf("Run: %v, want that b exited", err)
	}
	want := []string{"a is ready", "b | out of luck", "b exited (exit status 3); stopping a", "a | bye"}
	if diff := cmp.Diff(want, out.lines()[1:]); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestStartsAgain(t *testing.T) {
	ctx, cancel := testContext(t)
	out := newOutput()
	mortal := program(t, "b", "mortal")
	end := filepath.Join(t.TempDir(), "end")
	mortal.Env = append(mortal.Env, endFile+"="+end)
	group := supervise.Group{
		Programs:     []supervise.Program{program(t, "a", "polite"), mortal},
		Output:       out,
		Ready:        func(context.Context) (string, error) { return "all are up", nil },
		RestartDelay: time.Millisecond,
	}
	ended := make(chan error, 1)
	go func() { ended <- group.Run(ctx) }()
	if err := out.wait(ctx, "a | started", "b | started", "all are up\n"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const line = "b exited (exit status 4); starting it again in 1ms\n"
	if err := out.wait(ctx, line, line); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if last := out.lines()[len(out.lines())-1]; last != "a | bye" {
		t.Errorf("the last line is %q", last)
	}
}

// A Ctrl-C at a terminal goes to the process group of the caller.
func TestEachProgramHasItsOwnProcessGroup(t *testing.T) {
	ctx, cancel := testContext(t)
	out := newOutput()
	group := supervise.Group{
		Programs: []supervise.Program{program(t, "a", "polite")},
		Output:   out,
		Ready: func(ctx context.Context) (string, error) {
			defer cancel()
			return "", out.wait(ctx, "a | started, own group: true\n")
		},
	}
	if err := group.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
}
