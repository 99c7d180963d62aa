package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"kvstore/bench/caches"
	"kvstore/bench/report"
)

const cacheHelp = `go run . cache compares our cache with golang-lru and otter in one process: the time of a Get
that hits, of a Put that evicts and of a Put that replaces, and the hit ratio on traces.
`

// The traces for the hit ratios.
const (
	traceKeys   = 100_000
	traceLength = 1_000_000
)

var (
	traceSkews = []float64{0.6, 0.8, 0.9, 1.0, 1.1, 1.3}
	traceRooms = []int{100, 1000, 10_000}
)

type cacheSettings struct {
	common
	keys       int
	goroutines []int
}

func cacheCommand(ctx context.Context, args []string, out io.Writer) error {
	s := cacheSettings{}
	var goroutines string
	flags := newFlags(" cache", cacheHelp, out)
	s.define(flags, 200*time.Millisecond, 15)
	flags.IntVar(&s.keys, "keys", 16384, "capacity of the caches in keys, 256 to 1000000")
	flags.StringVar(&goroutines, "goroutines", "1,2,8", "comma-separated numbers of goroutines")
	err := s.parse(flags, args)
	if err != nil {
		return err
	}
	if s.goroutines, err = numbers("goroutines", goroutines, mostConnections); err != nil {
		return err
	}
	if s.keys < 256 || s.keys > 1_000_000 {
		return errors.New("--keys must be from 256 to 1000000")
	}
	started := time.Now()
	machine := report.Machine(os.TempDir())
	rows, wrong, err := measureCaches(ctx, s, out)
	if err != nil {
		return err
	}
	ratios, wrongHits, err := hitRatios(ctx, out)
	if err != nil {
		return err
	}
	times := cacheTable(rows)
	fmt.Fprintf(out, "\n%s\n%s", times, ratios)
	page := cachePage(s, started, machine, times, ratios)
	return errors.Join(
		report.Write(s.out, started, "cache", page, cacheChart(s, rows), out),
		wrong, wrongHits)
}

// A cacheRow is an operation of a cache in a number of goroutines.
type cacheRow struct {
	operation  string
	goroutines int
	kind       string
	wall, cpu  []float64 // nanoseconds per operation, by round
}

// measureCaches measures every operation of every cache in turns. wrong reports wrong answers.
func measureCaches(ctx context.Context, s cacheSettings, out io.Writer) (rows []*cacheRow, wrong, err error) {
	entries := caches.EntriesFor(s.keys)
	benches := make([]*caches.Bench, len(caches.Kinds))
	for i, kind := range caches.Kinds {
		if benches[i], err = caches.NewBench(kind, s.keys, entries); err != nil {
			return nil, nil, err
		}
		defer benches[i].Close()
	}
	for _, operation := range caches.Operations {
		for _, goroutines := range s.goroutines {
			fmt.Fprintf(out, "%s, %d goroutines\n", operation.Name, goroutines)
			group := make([]*cacheRow, len(benches))
			for i, kind := range caches.Kinds {
				group[i] = &cacheRow{operation: operation.Name, goroutines: goroutines, kind: kind.Name}
			}
			for round := range s.rounds {
				for i := range benches {
					i = (i + round) % len(benches)
					if err := ctx.Err(); err != nil {
						return nil, nil, err
					}
					wrong = errors.Join(wrong, group[i].measure(benches[i], caches.Kinds[i], operation, s.duration))
				}
			}
			rows = append(rows, group...)
		}
	}
	return rows, wrong, nil
}

// measure makes a measurement after a warm-up. The error reports wrong answers.
func (r *cacheRow) measure(b *caches.Bench, kind caches.Kind, operation caches.Operation, d time.Duration) error {
	runtime.GC() // so that this cache does not pay for another one's garbage
	warm := b.Run(operation, r.goroutines, d/warmUp)
	before, err := ownCPU()
	if err != nil {
		return err
	}
	m := b.Run(operation, r.goroutines, d)
	after, err := ownCPU()
	if err != nil {
		return err
	}
	r.wall = append(r.wall, float64(m.Elapsed.Nanoseconds())/float64(m.Operations))
	r.cpu = append(r.cpu, float64((after-before).Nanoseconds())/float64(m.Operations))
	wrong, missing := warm.Wrong+m.Wrong, warm.Missing+m.Missing
	if wrong > 0 || kind.Strict && missing > 0 {
		return fmt.Errorf("%s, %s, %d goroutines: %d wrong values, %d keys missing",
			kind.Name, operation.Name, r.goroutines, wrong, missing)
	}
	return nil
}

func cacheTable(rows []*cacheRow) string {
	head := []string{"operation", "goroutines", "cache", "ns/operation", "lowest to highest round", "CPU ns/operation", "ours took", "ours took of CPU"}
	cells := make([][]string, 0, 1+len(rows))
	cells = append(cells, head)
	for i, row := range rows {
		our := rows[i-i%len(caches.Kinds)]
		line := []string{
			row.operation, strconv.Itoa(row.goroutines), row.kind,
			fmt.Sprintf("%.0f", report.Median(row.wall)),
			fmt.Sprintf("%.0f to %.0f", slices.Min(row.wall), slices.Max(row.wall)),
			fmt.Sprintf("%.0f", report.Median(row.cpu)), "", "",
		}
		if our != row {
			line[6] = fmt.Sprintf("%.2f of it", report.Ratio(our.wall, row.wall))
			line[7] = fmt.Sprintf("%.2f of it", report.Ratio(our.cpu, row.cpu))
		}
		cells = append(cells, line)
	}
	return report.Table(cells)
}

// hitRatios returns a table of hit ratios. wrong is set if ours and golang-lru did not hit at the
// same requests.
func hitRatios(ctx context.Context, out io.Writer) (table string, wrong, err error) {
	head := make([]string, 0, 3+len(caches.Kinds))
	head = append(head, "skew", "capacity")
	for _, kind := range caches.Kinds {
		head = append(head, kind.Name)
	}
	cells := [][]string{append(head, "ours and golang-lru")}
	entries := caches.Entries(traceKeys)
	for _, skew := range traceSkews {
		fmt.Fprintf(out, "hit ratios, skew %.1f\n", skew)
		trace := caches.Trace(skew, traceKeys, traceLength)
		for _, room := range traceRooms {
			if err := ctx.Err(); err != nil {
				return "", nil, err
			}
			line := []string{fmt.Sprintf("%.1f", skew), strconv.Itoa(room)}
			hits := make([][]bool, len(caches.Kinds))
			for i, kind := range caches.Kinds {
				if hits[i], err = caches.Replay(kind, room, entries, trace); err != nil {
					return "", nil, err
				}
				line = append(line, fmt.Sprintf("%.2f %%", 100*caches.Share(hits[i])))
			}
			verdict := "hit at the same requests"
			if !slices.Equal(hits[0], hits[1]) {
				verdict = "DIFFER"
				wrong = errors.Join(wrong,
					fmt.Errorf("skew %.1f, capacity %d: ours and golang-lru do not hit at the same requests", skew, room))
			}
			cells = append(cells, append(line, verdict))
		}
	}
	return report.Table(cells), wrong, nil
}

func cachePage(s cacheSettings, started time.Time, machine []string, times, ratios string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "# Caches, %s\n\n![times](%s)\n\n",
		started.Format("2006-01-02 15:04 MST"), report.ChartName(started, "cache"))
	fmt.Fprintf(&text, "%d keys in each cache; %d rounds, in each every cache in turn for %s. README.md explains what is measured and how.\n\n", s.keys, s.rounds, s.duration)
	for _, line := range machine {
		fmt.Fprintf(&text, "- %s\n", line)
	}
	text.WriteString("\n| cache | what it is | version |\n| --- | --- | --- |\n")
	for i, kind := range caches.Kinds {
		version := []string{"this repository", moduleVersion("github.com/hashicorp/golang-lru/v2"), moduleVersion("github.com/maypok86/otter/v2")}[i]
		fmt.Fprintf(&text, "| %s | %s | %s |\n", kind.Name, kind.About, version)
	}
	text.WriteString("\n| operation | |\n| --- | --- |\n")
	for _, operation := range caches.Operations {
		fmt.Fprintf(&text, "| %s | %s |\n", operation.Name, operation.About)
	}
	fmt.Fprintf(&text, "\n%s\nShare of hits in %d requests for %d keys:\n\n%s", times, traceLength, traceKeys, ratios)
	return text.String()
}

func cacheChart(s cacheSettings, rows []*cacheRow) string {
	colours := []string{"#1f5fa8", "#4d9b5f", "#c77d2e"}
	var panels []report.Panel
	for i, row := range rows {
		if i%len(caches.Kinds) == 0 {
			panels = append(panels, report.Panel{Title: fmt.Sprintf("%s, %d goroutines: ns/operation",
				row.operation, row.goroutines)})
		}
		panel := &panels[len(panels)-1]
		panel.Bars = append(panel.Bars, report.Bar{Name: row.kind, Value: report.Median(row.wall),
			Colour: colours[i%len(caches.Kinds)]})
	}
	return report.Chart("Nanoseconds for each operation; each panel has its own scale", len(s.goroutines), panels)
}
