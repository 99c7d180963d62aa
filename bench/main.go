// Command bench compares the service with other stores and proxies on this
// machine: the same load for every side, in turns, every answer checked. See
// README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"kvstore/bench/generator"
)

func main() {
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout)
	restore()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case etcdCommand:
			return etcdServer(ctx, args[1:])
		case sqliteCommand:
			return serveSQLite(ctx, args[1:], in, out)
		}
	}
	settings, err := parse(args, out)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	return compare(ctx, settings, out)
}

// serveSQLite also ends when ctx does, although a read of in cannot be stopped.
func serveSQLite(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	done := make(chan error, 1)
	go func() { done <- sqliteLoads(ctx, args, in, out) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return nil
	}
}

type settings struct {
	duration    time.Duration
	rounds      int
	sides       []string
	loads       []string
	connections []int
	out         string
	dir         string
	root        string
}

func parse(args []string, out io.Writer) (settings, error) {
	var s settings
	var sideNames, loadNames, connections string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.DurationVar(&s.duration, "duration", 2*time.Second, "length of each measurement")
	flags.IntVar(&s.rounds, "rounds", 5, "how often each measurement is made; the rate shown is the median")
	flags.StringVar(&sideNames, "sides", "", "comma-separated; all that are installed when empty")
	flags.StringVar(&loadNames, "loads", "put,get", "comma-separated, of put, get, mix and miss")
	flags.StringVar(&connections, "connections", "1,16,64", "comma-separated numbers of connections")
	flags.StringVar(&s.out, "out", "results", "directory for the results")
	flags.StringVar(&s.dir, "dir", "", "directory for the data of the sides, on the disk to measure; the default one for temporary files when empty")
	flags.StringVar(&s.root, "root", "..", "the root of the repository")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("no arguments are expected: %v", flags.Args())
	}
	if s.duration <= 0 || s.rounds <= 0 {
		return s, errors.New("--duration and --rounds must be positive")
	}
	s.sides, s.loads = list(sideNames), list(loadNames)
	for _, text := range list(connections) {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1024 {
			return s, fmt.Errorf("--connections: %q is not a number from 1 to 1024", text)
		}
		s.connections = append(s.connections, n)
	}
	return s, nil
}

func list(text string) []string {
	return slices.DeleteFunc(strings.Split(text, ","), func(s string) bool { return s == "" })
}

// compare builds, measures, and writes the results.
func compare(ctx context.Context, s settings, out io.Writer) (err error) {
	loads, err := chooseLoads(s.loads)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "building")
	ours, err := build(ctx, s.root)
	if err != nil {
		return err
	}
	chosen, versions, err := chooseSides(ctx, s.sides, ours, out)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(s.dir, "kvstore-bench-")
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			err = os.RemoveAll(dir)
		} else {
			fmt.Fprintln(out, "the data and the logs are in", dir)
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil { // the workers of nginx run as another user
		return err
	}
	p := &plan{sides: chosen, loads: loads, connections: s.connections, duration: s.duration, rounds: s.rounds, dir: dir}
	r := &results{plan: p, machine: describeMachine(dir), versions: versions, started: time.Now()}
	r.rows, err = p.measure(ctx, out)
	if len(r.rows) == 0 {
		return err
	}
	return errors.Join(err, r.write(s.out, out), r.check())
}

func chooseLoads(names []string) ([]generator.Load, error) {
	var chosen []generator.Load
	for _, load := range generator.Loads {
		if slices.Contains(names, load.Name) {
			chosen = append(chosen, load)
		}
	}
	if len(chosen) != len(names) || len(names) == 0 {
		return nil, fmt.Errorf("--loads: %v: each must be one of put, get, mix and miss, and named once", names)
	}
	return chosen, nil
}

// chooseSides returns the sides that are wanted and installed, with the
// versions of their programs.
func chooseSides(ctx context.Context, names []string, ours *programs, out io.Writer) ([]side, map[string]string, error) {
	var chosen []side
	versions := map[string]string{}
	known := 0
	for _, s := range sides(ours) {
		if len(names) > 0 && !slices.Contains(names, s.name()) {
			continue
		}
		known++
		version, err := s.version(ctx)
		if errors.Is(err, errNotInstalled) {
			fmt.Fprintf(out, "side %s is skipped: %v\n", s.name(), err)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		versions[s.name()] = version
		chosen = append(chosen, s)
	}
	if len(names) > known {
		return nil, nil, fmt.Errorf("--sides: %v: one of them is unknown or named twice", names)
	}
	if len(chosen) == 0 {
		return nil, nil, errors.New("no side is installed")
	}
	return chosen, versions, nil
}
