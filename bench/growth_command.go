package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"kvstore/bench/grown"
	"kvstore/bench/report"
)

const growthHelp = `go run . growth measures the backend over databases that hold more and more versions: PUT, a
GET that misses the cache, and /db/stats. All databases are open at once and measured in
turns. It fills them first, which for ten million versions takes minutes and 3 GB.
`

type growthSettings struct {
	common
	sizes       []int
	connections []int
	dir         string
	root        string
}

// mostVersions bounds the versions of a database in the growth run.
const mostVersions = 1_000_000_000

func growthCommand(ctx context.Context, args []string, out io.Writer) error {
	var s growthSettings
	var sizes, connections string
	flags := newFlags(" growth", growthHelp, out)
	s.define(flags, 500*time.Millisecond, 9)
	flags.StringVar(&sizes, "sizes", "10000,1000000,10000000", "comma-separated numbers of versions, multiples of 10")
	flags.StringVar(&connections, "connections", "1,16", "comma-separated numbers of connections")
	flags.StringVar(&s.dir, "dir", "",
		"directory for the databases, on the disk to measure; if empty, the directory for temporary files")
	flags.StringVar(&s.root, "root", "..", "the root of the repository")
	err := s.parse(flags, args)
	if err != nil {
		return err
	}
	if s.sizes, err = numbers("sizes", sizes, mostVersions); err != nil {
		return err
	}
	slices.Sort(s.sizes)
	for _, size := range s.sizes {
		if size%grown.VersionsPerKey != 0 {
			return fmt.Errorf("--sizes: %d is not a multiple of %d, the number of versions of each key",
				size, grown.VersionsPerKey)
		}
	}
	if len(slices.Compact(slices.Clone(s.sizes))) < len(s.sizes) {
		return fmt.Errorf("--sizes: %v: one is repeated", s.sizes)
	}
	if s.connections, err = numbers("connections", connections, mostConnections); err != nil {
		return err
	}
	return grow(ctx, s, out)
}

// grow builds, fills, measures, and writes the results.
func grow(ctx context.Context, s growthSettings, out io.Writer) (err error) {
	var total int64
	for _, size := range s.sizes {
		total += int64(size)
	}
	parent := s.dir
	if parent == "" {
		parent = os.TempDir()
	}
	if err := grown.CheckDisk(parent, total); err != nil {
		return err
	}
	fmt.Fprintln(out, "building")
	ours, err := build(ctx, s.root)
	if err != nil {
		return err
	}
	dir, remove, err := temporary(s.dir)
	if err != nil {
		return err
	}
	defer func() { err = remove(err, out) }()
	p := &plan{loads: growthLoads, connections: s.connections, duration: s.duration, rounds: s.rounds, dir: dir}
	r := &results{
		title: "Growth", what: "growth", plan: p, machine: report.Machine(dir),
		versions: map[string]string{}, started: time.Now(),
		intro: "The backend on databases of several sizes. They were filled just before, so they are in the page cache " +
			"as far as memory allows. ",
	}
	for i, size := range s.sizes {
		side := &grownSide{programs: ours, versions: int64(size), progress: out}
		p.sides = append(p.sides, side)
		r.versions[side.name()] = ours.commit
		if i > 0 {
			r.pairs = append(r.pairs, [2]string{side.name(), p.sides[0].name()})
		}
	}
	return r.make(ctx, s.out, out)
}
