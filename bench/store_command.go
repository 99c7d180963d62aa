package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"kvstore/bench/generator"
	"kvstore/bench/report"
	"kvstore/bench/storealone"
)

const storeHelp = `go run . store compares durable writes of the store of the backend, in one process and without
HTTP, with mattn/go-sqlite3 alone: transactions of as many rows as there are callers, and
of as many as the store made of them.
`

type storeSettings struct {
	common
	callers []int
	dir     string
}

func storeCommand(ctx context.Context, args []string, out io.Writer) (err error) {
	var s storeSettings
	var callers string
	flags := newFlags(" store", storeHelp, out)
	s.define(flags, time.Second, 9)
	flags.StringVar(&callers, "callers", "1,16,64", "comma-separated numbers of callers that wait at once")
	flags.StringVar(&s.dir, "dir", "",
		"directory for the data, on the disk to measure; if empty, the directory for temporary files")
	if err := s.parse(flags, args); err != nil {
		return err
	}
	if s.callers, err = numbers("callers", callers, mostConnections); err != nil {
		return err
	}
	dir, remove, err := temporary(s.dir)
	if err != nil {
		return err
	}
	defer func() { err = remove(err, out) }()
	started, machine := time.Now(), report.Machine(dir)
	rows, wrong, err := measureStore(ctx, s, dir, out)
	if err != nil {
		return err
	}
	table := storeTable(rows)
	fmt.Fprintf(out, "\n%s", table)
	var page strings.Builder
	fmt.Fprintf(&page, "# Store alone, %s\n\n![rates](%s)\n\n%d rounds, in each both in turn for %s. README.md explains what is measured and how.\n\n",
		started.Format("2006-01-02 15:04 MST"), report.ChartName(started, "store"), s.rounds, s.duration)
	for _, line := range append(machine, sqliteVersion()) {
		fmt.Fprintf(&page, "- %s\n", line)
	}
	fmt.Fprintf(&page, "\n%s", table)
	return errors.Join(report.Write(s.out, started, "store", page.String(), storeChart(rows), out), wrong)
}

func sqliteVersion() string {
	version, _ := sqliteSide{}.version(context.Background()) // never fails
	return version
}

// A storeRow is the store with a number of callers, or SQLite with a number of rows per
// transaction.
type storeRow struct {
	name    string
	callers int
	batch   float64 // rows per transaction
	rates   []float64
	p50s    []float64 // microseconds
	cpu     []float64 // microseconds per row
	latency generator.Histogram
}

func (r *storeRow) add(result *generator.Result, cpu time.Duration) {
	r.rates = append(r.rates, float64(result.Requests)/result.Elapsed.Seconds())
	r.p50s = append(r.p50s, float64(result.Latency.Quantile(0.5).Nanoseconds())/1000)
	r.cpu = append(r.cpu, float64(cpu.Nanoseconds())/1000/float64(result.Requests))
	r.latency.Merge(&result.Latency)
}

// measureStore returns three rows for each number of callers: the store, SQLite with that many rows
// per transaction, and SQLite with as many rows per transaction as the store had.
func measureStore(ctx context.Context, s storeSettings, dir string, out io.Writer) (rows []*storeRow, wrong, err error) {
	ours, err := storealone.Open(ctx, dir, os.Stderr)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, ours.Close()) }()
	raw, err := openSQLite(ctx, filepath.Join(dir, "ceiling.db"))
	if err != nil {
		return nil, nil, err
	}
	defer raw.close()
	for _, callers := range s.callers {
		fmt.Fprintf(out, "%d callers\n", callers)
		before := ours.Commits()
		warm, err := ours.Run(ctx, callers, s.duration, math.MaxUint32)
		if err != nil {
			return nil, nil, err
		}
		batch := float64(warm.Requests) / float64(ours.Commits()-before)
		group := []*storeRow{
			{name: "store", callers: callers, batch: batch},
			{name: "sqlite, as many rows as callers", callers: callers, batch: float64(callers)},
			{name: "sqlite, as many rows as the store", callers: callers, batch: math.Round(batch)},
		}
		for round := range s.rounds {
			for i := range group {
				if err := ctx.Err(); err != nil {
					return nil, nil, err
				}
				if err := group[(i+round)%len(group)].measure(ctx, ours, raw, s.duration, uint64(round)); err != nil {
					return nil, nil, err
				}
			}
		}
		rows = append(rows, group...)
	}
	wrong = ours.Verify(ctx)
	if wrong == nil {
		fmt.Fprintf(out, "%d writes of the store were acknowledged; it has as many versions, and the last acknowledged write of each key\n", ours.Writes())
	}
	return rows, wrong, nil
}

func (r *storeRow) measure(ctx context.Context, ours *storealone.Store, raw *sqliteDB, d time.Duration, round uint64) error {
	once := func(d time.Duration) (generator.Result, error) {
		if r.name == "store" {
			return ours.Run(ctx, r.callers, d, round)
		}
		return raw.do(ctx, order{Load: "put", Connections: int(r.batch), Duration: d})
	}
	if _, err := once(d / warmUp); err != nil {
		return err
	}
	before, err := ownCPU()
	if err != nil {
		return err
	}
	result, err := once(d)
	if err != nil {
		return err
	}
	after, err := ownCPU()
	if err != nil {
		return err
	}
	r.add(&result, after-before)
	return nil
}

func storeTable(rows []*storeRow) string {
	cells := make([][]string, 0, 1+len(rows))
	cells = append(cells, []string{"callers", "what", "rows a transaction", "rows/s", "lowest to highest round", "p50 us", "p99 us", "CPU us/row", "the store's rate", "the store's p50"})
	var ours *storeRow
	for _, row := range rows {
		line := []string{
			strconv.Itoa(row.callers), row.name, fmt.Sprintf("%.0f", row.batch),
			fmt.Sprintf("%.0f", report.Median(row.rates)),
			fmt.Sprintf("%.0f to %.0f", slices.Min(row.rates), slices.Max(row.rates)),
			microseconds(row.latency.Quantile(0.5)), microseconds(row.latency.Quantile(0.99)),
			fmt.Sprintf("%.1f", report.Median(row.cpu)), "", "",
		}
		if row.name == "store" {
			ours = row
		} else {
			line[8] = fmt.Sprintf("%.2f of it", report.Ratio(ours.rates, row.rates))
			line[9] = fmt.Sprintf("%.2f of it", report.Ratio(ours.p50s, row.p50s))
		}
		cells = append(cells, line)
	}
	return report.Table(cells)
}

func storeChart(rows []*storeRow) string {
	var panels []report.Panel
	for _, row := range rows {
		bar := report.Bar{Name: fmt.Sprintf("sqlite, %.0f rows", row.batch), Value: report.Median(row.rates)}
		if row.name == "store" {
			bar.Name, bar.Colour = "store", colours["backend"]
			panels = append(panels, report.Panel{Title: fmt.Sprintf("%d callers: rows/s", row.callers)})
		}
		panel := &panels[len(panels)-1]
		panel.Bars = append(panel.Bars, bar)
	}
	return report.Chart("Durable writes a second; each panel has its own scale", min(3, len(panels)), panels)
}
