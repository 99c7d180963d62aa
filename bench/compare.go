package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"kvstore/bench/generator"
	"kvstore/bench/report"
)

// compareSettings are the settings of the comparison over HTTP.
type compareSettings struct {
	common
	sides       []string
	loads       []string
	connections []int
	dir         string
	root        string
}

func compareCommand(ctx context.Context, args []string, out io.Writer) error {
	var s compareSettings
	var sideNames, loadNames, connections string
	flags := newFlags("", help, out)
	s.define(flags, time.Second, 5)
	flags.StringVar(&sideNames, "sides", "", "comma-separated; if empty, all that are installed")
	flags.StringVar(&loadNames, "loads", "put,get,mix,miss", "comma-separated: put, get, mix, miss")
	flags.StringVar(&connections, "connections", "1,16,64", "comma-separated numbers of connections")
	flags.StringVar(&s.dir, "dir", "",
		"directory for the data of the sides, on the disk to measure; if empty, the directory for temporary files")
	flags.StringVar(&s.root, "root", "..", "the root of the repository")
	err := s.parse(flags, args)
	if err != nil {
		return err
	}
	s.sides, s.loads = list(sideNames), list(loadNames)
	if s.connections, err = numbers("connections", connections, mostConnections); err != nil {
		return err
	}
	return compare(ctx, s, out)
}

// comparePairs are the sides whose results are divided.
var comparePairs = [][2]string{
	{"gateway", "nginx"}, {"gateway", "backend"}, {"traefik", "gateway"}, {"traefik", "backend"},
	{"traefik", "predecessor"}, {"traefik", "predecessor-repaired"},
	{"backend", "sqlite"}, {"backend", "redis"}, {"backend", "etcd"}, {"traefik", "etcd"},
}

// compare builds, measures, and writes the results.
func compare(ctx context.Context, s compareSettings, out io.Writer) (err error) {
	loads, err := chooseLoads(s.loads)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "building")
	ours, err := build(ctx, s.root)
	if err != nil {
		return err
	}
	chosen, versions, err := chooseSides(ctx, sides(ours), s.sides, out)
	if err != nil {
		return err
	}
	dir, remove, err := temporary(s.dir)
	if err != nil {
		return err
	}
	defer func() { err = remove(err, out) }()
	p := &plan{sides: chosen, loads: loads, connections: s.connections, duration: s.duration, rounds: s.rounds, dir: dir}
	fmt.Fprintf(out, "this takes about %s, plus the time to fill the stores\n", p.length().Round(time.Second))
	r := &results{
		title: "Benchmark", what: "sides", pairs: comparePairs,
		plan: p, machine: report.Machine(dir), versions: versions, started: time.Now(),
	}
	return r.make(ctx, s.out, out)
}

// make measures and writes the results. It also returns an error if an answer was wrong.
func (r *results) make(ctx context.Context, dir string, out io.Writer) (err error) {
	r.rows, err = r.plan.measure(ctx, out)
	if len(r.rows) == 0 {
		return err
	}
	return errors.Join(err, r.write(dir, out), r.check())
}

// temporary makes a directory in parent, and returns a function that removes it if err is nil.
// Otherwise that function prints the path of the directory and returns err.
func temporary(parent string) (string, func(err error, out io.Writer) error, error) {
	dir, err := os.MkdirTemp(parent, "kvstore-bench-")
	if err != nil {
		return "", nil, err
	}
	remove := func(err error, out io.Writer) error {
		if err == nil {
			return os.RemoveAll(dir)
		}
		fmt.Fprintln(out, "the data and the logs are in", dir)
		return err
	}
	// The workers of nginx run as another user.
	return dir, remove, os.Chmod(dir, 0o755)
}

func chooseLoads(names []string) ([]generator.Load, error) {
	var chosen []generator.Load
	for _, load := range generator.Loads {
		if slices.Contains(names, load.Name) {
			chosen = append(chosen, load)
		}
	}
	if len(chosen) != len(names) || len(names) == 0 {
		return nil, fmt.Errorf("--loads: %v: each must be put, get, mix or miss, without repetition", names)
	}
	return chosen, nil
}

// chooseSides returns those of the sides that are wanted and installed, and the versions of their
// programs.
func chooseSides(ctx context.Context, all []side, names []string, out io.Writer) ([]side, map[string]string, error) {
	var chosen []side
	versions := map[string]string{}
	known := 0
	for _, s := range all {
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
		return nil, nil, fmt.Errorf("--sides: %v: one of them is unknown or repeated", names)
	}
	if len(chosen) == 0 {
		return nil, nil, errors.New("no side is installed")
	}
	return chosen, versions, nil
}
