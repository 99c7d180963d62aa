package main

import (
	"time"

	"kvstore/bench/generator"
)

// Exported for the tests.
var (
	Run         = run
	Between     = between
	ShortNumber = shortNumber
	Numbers     = numbers
)

// A Measured is one load on one side.
type Measured struct {
	Load, Side  string
	Connections int
	Rates, P50s []float64
	Wrong       uint64
}

// Tables returns the tables of results, and the error of the program.
func Tables(measured []Measured, pairs [][2]string) (string, error) {
	r := &results{plan: &plan{rounds: 1}, pairs: pairs}
	for _, m := range measured {
		load := generator.Load{Name: m.Load}
		r.plan.loads = appendNew(r.plan.loads, load)
		r.plan.connections = appendNew(r.plan.connections, m.Connections)
		made := &row{load: load, connections: m.Connections, side: m.Side, rates: m.Rates, p50s: m.P50s, p99s: m.P50s, cpus: m.P50s}
		made.result.Requests, made.result.Errors = 1000, m.Wrong
		made.result.Latency.Add(time.Millisecond)
		made.cpu = []usage{{"backend", 30 * time.Millisecond}, {"generator", 10 * time.Millisecond}}
		r.rows = append(r.rows, made)
	}
	return r.tables(), r.check()
}

func appendNew[T comparable](all []T, one T) []T {
	for _, known := range all {
		if known == one {
			return all
		}
	}
	return append(all, one)
}
