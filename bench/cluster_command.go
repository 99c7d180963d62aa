package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"kvstore/bench/generator"
	"kvstore/bench/report"
)

const clusterHelp = `go run . cluster measures backends on PostgreSQL, which it starts itself (Debian: postgresql), and
compares them with SQLite, with etcd of three members, with kine, and with plain commits. It
prints the targets with what was measured, and how soon an event reaches another backend.
`

func clusterCommand(ctx context.Context, args []string, out io.Writer) (err error) {
	var s compareSettings
	var sideNames string
	flags := newFlags(" cluster", clusterHelp, out)
	s.define(flags, time.Second, 5)
	flags.StringVar(&sideNames, "sides", "", "comma-separated; if empty, all that can be built")
	flags.StringVar(&s.dir, "dir", "",
		"directory for the data of the sides, on the disk to measure; if empty, the directory for temporary files")
	flags.StringVar(&s.root, "root", "..", "the root of the repository")
	if err := s.parse(flags, args); err != nil {
		return err
	}
	s.sides, s.loads, s.connections = list(sideNames), []string{"put", "get"}, []int{1, 64}
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
	machine := report.Machine(dir)
	servers, err := startServers(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, servers.stop()) }()
	chosen, versions, err := chooseSides(ctx, servers.sides(ours), s.sides, out)
	if err != nil {
		return err
	}
	loads, err := chooseLoads(s.loads)
	if err != nil {
		return err
	}
	p := &plan{sides: chosen, loads: loads, connections: s.connections, duration: s.duration, rounds: s.rounds, dir: dir}
	fmt.Fprintf(out, "this takes about %s, plus the time to fill the stores\n", p.length().Round(time.Second))
	r := &results{
		title: "Cluster", what: "cluster", pairs: clusterPairs, plan: p, machine: machine, versions: versions,
		started: time.Now(),
	}
	if r.rows, err = p.measure(ctx, out); len(r.rows) == 0 {
		return err
	}
	events, eventsErr := measureEvents(ctx, &postgresSide{ours, "events", servers.plain, 3, 0}, p, out)
	r.more = r.targets(events) + eventTable(events)
	return errors.Join(err, eventsErr, r.write(s.out, out), r.check())
}

// servers are the PostgreSQL servers of the sides.
type servers struct {
	plain *pgServer
	sync  *pgServer // has a synchronous standby
}

func startServers(ctx context.Context, dir string) (s servers, err error) {
	if s.plain, err = startPostgres(ctx, dir, false); err != nil {
		return s, err
	}
	if s.sync, err = startPostgres(ctx, dir, true); err != nil {
		err = errors.Join(err, s.plain.stop())
	}
	return s, err
}

func (s servers) stop() error { return errors.Join(s.sync.stop(), s.plain.stop()) }

func (s servers) sides(ours *programs) []side {
	return []side{
		&backendSide{ours},
		&postgresSide{ours, "postgres", s.plain, 1, 0},
		&postgresSide{ours, "postgres-3", s.plain, 3, 0},
		&postgresSide{ours, "postgres-sync", s.sync, 1, 0},
		etcdSide{members: 3},
		&kineSide{ours, s.sync},
		commitsSide{s.plain},
	}
}

// clusterPairs are the sides whose results are divided.
var clusterPairs = [][2]string{
	{"postgres", "backend"}, {"postgres", "etcd-3"}, {"postgres-sync", "etcd-3"}, {"postgres-sync", "kine"},
	{"postgres-3", "postgres"}, {"postgres", "commits"},
}

// A target is a bound for a ratio of two sides.
type target struct {
	what, against string
	load          string
	connections   int
	a, b          string
	numbers       func(*row) []float64
	bound         float64
	most          bool // the bound is the largest ratio, not the smallest
}

func rates(r *row) []float64 { return r.rates }

func p50s(r *row) []float64 { return r.p50s }

var clusterTargets = []target{
	{"GET of a cached key, fresh, one backend, 64 connections: rate", "on SQLite", "get", 64, "postgres", "backend", rates, 0.85, false},
	{"GET as above: rate", "etcd of three members", "get", 64, "postgres", "etcd-3", rates, 2, false},
	{"PUT with one synchronous standby, 64 connections: rate", "etcd of three members", "put", 64, "postgres-sync", "etcd-3", rates, 1, false},
	{"PUT as above: rate", "kine on the same PostgreSQL", "put", 64, "postgres-sync", "kine", rates, 3, false},
	{"PUT, 1 connection, no standby: p50", "one commit of that PostgreSQL", "put", 1, "postgres", "commits", p50s, 2, true},
	{"PUT to the first of three backends, 64 connections: rate", "one backend", "put", 64, "postgres-3", "postgres", rates, 0.9, false},
}

// eventTarget is for the p99.
const eventTarget = 5 * time.Millisecond

// targets returns a table of what was measured against its targets.
func (r *results) targets(events []*eventRow) string {
	cells := [][]string{{"what", "against", "measured", "target", ""}}
	for _, t := range clusterTargets {
		i := slices.IndexFunc(r.plan.loads, func(load generator.Load) bool { return load.Name == t.load })
		if i < 0 {
			continue
		}
		a, b := r.row(r.plan.loads[i], t.connections, t.a), r.row(r.plan.loads[i], t.connections, t.b)
		if a == nil || b == nil {
			continue
		}
		ratio := report.Ratio(t.numbers(a), t.numbers(b))
		bound, met := "at least", ratio >= t.bound
		if t.most {
			bound, met = "at most", ratio <= t.bound
		}
		cells = append(cells, []string{t.what, t.against, quotient(ratio), fmt.Sprintf("%s %g", bound, t.bound), verdict(met)})
	}
	for _, e := range events {
		if e.pause == 0 || e.lag.Total == 0 { // without a pause it shows the machine, which is full
			continue
		}
		p99 := e.lag.Quantile(0.99)
		cells = append(cells, []string{
			fmt.Sprintf("an event at a watcher of another backend, %d writers: p99", e.writers), "the answer to its write",
			p99.Round(10 * time.Microsecond).String(), "at most " + eventTarget.String(), verdict(p99 <= eventTarget),
		})
	}
	return "\nTargets:\n\n" + report.Table(cells)
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "**missed**"
}

// measureEvents measures how soon events come at another backend.
func measureEvents(ctx context.Context, s *postgresSide, p *plan, progress io.Writer) (rows []*eventRow, err error) {
	fmt.Fprintln(progress, "events")
	dir := filepath.Join(p.dir, s.label)
	if err := os.Mkdir(dir, 0o750); err != nil {
		return nil, err
	}
	started, err := s.run(ctx, place{dir: dir})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, started.stop()) }()
	for _, load := range eventLoads {
		rows = append(rows, &eventRow{eventLoad: load})
	}
	for range p.rounds {
		for _, r := range rows {
			if err := r.measure(ctx, started.addresses[0], started.addresses[1], p.duration); err != nil {
				return rows, fmt.Errorf("events of %d writers: %w", r.writers, err)
			}
		}
	}
	return rows, nil
}

func eventTable(rows []*eventRow) string {
	if len(rows) == 0 {
		return ""
	}
	cells := [][]string{{"writers", "pause", "events/s", "before the answer", "p50 us after it", "p99 us"}}
	for _, r := range rows {
		cells = append(cells, r.cells())
	}
	return "\nEvents at a watcher of another backend. Each came once and in order. Each writer pauses after an answer:\n\n" +
		report.Table(cells)
}
