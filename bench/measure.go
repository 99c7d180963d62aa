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
)

// A plan describes what to measure.
type plan struct {
	sides       []side
	loads       []generator.Load
	connections []int
	duration    time.Duration // of one measurement
	rounds      int
	dir         string // for the data of the sides

	checks []string // results of the final checks, in Markdown
	wrong  []error  // final checks that failed
}

// length returns the duration of all measurements.
func (p *plan) length() time.Duration {
	measurements := len(p.sides) * len(p.loads) * len(p.connections) * p.rounds
	return time.Duration(measurements) * (p.duration + p.duration/warmUp)
}

// A row is a load with a number of connections on one side.
type row struct {
	load        generator.Load
	connections int
	side        string

	rates  []float64 // requests per second, by round
	p50s   []float64 // microseconds, by round
	p99s   []float64
	cpus   []float64 // microseconds of the side per request, by round
	result generator.Result
	cpu    []usage // each process of the side, then the generator
	unfit  bool    // the side does not support the load
}

// usage is the processor time of a process in all rounds.
type usage struct {
	name string
	time time.Duration
}

// perRequest returns microseconds.
func (r *row) perRequest(d time.Duration) float64 {
	if r.result.Requests == 0 {
		return 0
	}
	return float64(d.Nanoseconds()) / 1000 / float64(r.result.Requests)
}

// measure measures everything. After an error, it returns the rows that it has.
func (p *plan) measure(ctx context.Context, progress io.Writer) ([]*row, error) {
	var rows []*row
	for i := 0; i < len(p.loads); {
		group := p.loads[i:]
		for n, load := range group {
			if load.CacheKeys != group[0].CacheKeys {
				group = group[:n]
				break
			}
		}
		i += len(group)
		measured, err := p.measureGroup(ctx, group, progress)
		rows = append(rows, measured...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// measureGroup starts all sides and measures the loads.
func (p *plan) measureGroup(ctx context.Context, loads []generator.Load, progress io.Writer) (rows []*row, err error) {
	stores := make([]*store, 0, len(p.sides))
	defer func() {
		for _, s := range stores {
			err = errors.Join(err, s.stop())
		}
	}()
	for _, s := range p.sides {
		dir := filepath.Join(p.dir, loads[0].Name, s.name())
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the workers of nginx run as another user
			return nil, err
		}
		started, err := s.start(ctx, place{dir: dir, cacheKeys: loads[0].CacheKeys})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name(), err)
		}
		stores = append(stores, started)
	}
	for _, load := range loads {
		for _, connections := range p.connections {
			fmt.Fprintf(progress, "%s, %d connections\n", load.Name, connections)
			measured, err := p.interleave(ctx, stores, load, connections)
			rows = append(rows, measured...)
			if err != nil {
				return rows, err
			}
		}
		if err := p.verify(ctx, stores, load); err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// verify runs the final check of a load on every side that has one.
func (p *plan) verify(ctx context.Context, stores []*store, load generator.Load) error {
	for i, s := range stores {
		if s.verify == nil {
			continue
		}
		found, err := s.verify(ctx, load)
		var wrong *generator.WrongError
		switch {
		case errors.As(err, &wrong):
			err = fmt.Errorf("%s, %s: the final check: %w", load.Name, p.sides[i].name(), err)
			p.wrong = append(p.wrong, err)
			found = "wrong: " + wrong.What
		case err != nil:
			return fmt.Errorf("%s, %s: the final check: %w", load.Name, p.sides[i].name(), err)
		}
		if found == "" {
			continue
		}
		p.checks = append(p.checks, fmt.Sprintf("%s, %s: %s", load.Name, p.sides[i].name(), found))
	}
	return nil
}

// interleave measures a load on all sides in turns, so that other activity on the machine affects
// all of them. Each round begins with another side.
func (p *plan) interleave(ctx context.Context, stores []*store, load generator.Load, connections int) ([]*row, error) {
	rows := make([]*row, len(p.sides))
	for i, s := range p.sides {
		rows[i] = &row{load: load, connections: connections, side: s.name()}
	}
	for round := range p.rounds {
		for i := range p.sides {
			i = (i + round) % len(p.sides)
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if rows[i].unfit {
				continue
			}
			err := p.once(stores[i], rows[i], uint64(round))
			if errors.Is(err, errUnfit) {
				rows[i].unfit = true
			} else if err != nil {
				return nil, fmt.Errorf("%s: %s, %d connections: %w", rows[i].side, load.Name, connections, err)
			}
		}
	}
	return slices.DeleteFunc(rows, func(r *row) bool { return r.unfit }), nil
}

// warmUp is the fraction (1/warmUp) of a measurement's duration that is spent on a warm-up, on the
// same connections.
const warmUp = 5

// once makes one measurement and adds it to the row.
func (p *plan) once(s *store, r *row, round uint64) error {
	session, err := s.session(r.load, r.connections)
	if err != nil {
		return err
	}
	defer session.Close()
	pick := r.load.NewPicker(round)
	warm, err := session.Run(p.duration/warmUp, pick)
	if err != nil {
		return err
	}
	before, err := cpuTimes(s)
	if err != nil {
		return err
	}
	result, err := session.Run(p.duration, pick)
	if err != nil {
		return err
	}
	after, err := cpuTimes(s)
	if err != nil {
		return err
	}
	r.rates = append(r.rates, float64(result.Requests)/result.Elapsed.Seconds())
	r.p50s = append(r.p50s, float64(result.Latency.Quantile(0.5).Nanoseconds())/1000)
	r.p99s = append(r.p99s, float64(result.Latency.Quantile(0.99).Nanoseconds())/1000)
	r.result.Merge(&result)
	// A wrong answer and a broken connection are such whenever they come.
	r.result.Errors += warm.Errors
	r.result.Broken += warm.Broken
	if r.result.Error == "" {
		r.result.Error = warm.Error
	}
	if r.cpu == nil {
		r.cpu = make([]usage, len(after))
	}
	var ofSide time.Duration
	for i := range after {
		used := after[i].time - before[i].time
		r.cpu[i].name = after[i].name
		r.cpu[i].time += used
		if i < len(after)-1 { // the last is the generator
			ofSide += used
		}
	}
	r.cpus = append(r.cpus, float64(ofSide.Nanoseconds())/1000/float64(max(result.Requests, 1)))
	return nil
}

// cpuTimes returns the processor time so far of each process of the side, the
// last to be started first, as a request meets them, and of the generator.
func cpuTimes(s *store) ([]usage, error) {
	var times []usage
	for _, p := range slices.Backward(slices.Concat(s.shared, s.processes)) {
		used, err := p.cpu()
		if err != nil {
			return nil, err
		}
		times = append(times, usage{p.name, used})
	}
	own, err := ownCPU()
	return append(times, usage{"generator", own}), err
}
