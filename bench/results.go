package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// results are what a run came to.
type results struct {
	plan     *plan
	machine  []string
	versions map[string]string // of the programs of each side
	started  time.Time
	rows     []*row
}

// write writes the table to out and all results to files in dir.
func (r *results) write(dir string, out io.Writer) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	name := r.started.Format("2006-01-02-150405")
	fmt.Fprintf(out, "\n%s\n%s", r.table(), r.ratios())
	for file, content := range map[string]string{name + ".md": r.markdown(name + ".svg"), name + ".svg": r.chart()} {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
		fmt.Fprintln(out, "written:", path)
	}
	return nil
}

// check returns an error when an answer was wrong or missing.
func (r *results) check() error {
	var errs []error
	for _, row := range r.rows {
		if row.result.Errors+row.result.Broken > 0 {
			errs = append(errs, fmt.Errorf("%s, %d connections, %s: %d wrong answers, %d broken connections, the first: %s",
				row.load.Name, row.connections, row.side, row.result.Errors, row.result.Broken, row.result.Error))
		}
	}
	return errors.Join(errs...)
}

func (r *results) markdown(chart string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "# Benchmark of %s\n\n![rates](%s)\n\n", r.started.Format("2006-01-02 15:04 MST"), chart)
	fmt.Fprintf(&text, "%d rounds; in each, every side in turn for %s after %s of the same load that is not counted. README.md says what is measured and how.\n\n",
		r.plan.rounds, r.plan.duration, r.plan.duration/warmUp)
	for _, line := range r.machine {
		fmt.Fprintf(&text, "- %s\n", line)
	}
	text.WriteString("\n| side | what it is | version |\n| --- | --- | --- |\n")
	for _, s := range r.plan.sides {
		fmt.Fprintf(&text, "| %s | %s | %s |\n", s.name(), s.about(), r.versions[s.name()])
	}
	text.WriteString("\n| load | |\n| --- | --- |\n")
	for _, load := range r.plan.loads {
		fmt.Fprintf(&text, "| %s | %s |\n", load.Name, load.Description)
	}
	fmt.Fprintf(&text, "\n%s\n%s", r.table(), r.ratios())
	if err := r.check(); err != nil {
		fmt.Fprintf(&text, "\n```\n%v\n```\n", err)
	}
	return text.String()
}

// table returns a table in Markdown whose columns are aligned, so that it is
// read as well on a terminal.
func (r *results) table() string {
	cells := make([][]string, 0, 1+len(r.rows))
	cells = append(cells, []string{"load", "conns", "side", "requests/s", "lowest to highest round", "p50 us", "p99 us", "CPU us/request", "of it", "wrong", "broken"})
	for _, row := range r.rows {
		var total time.Duration
		parts := make([]string, 0, len(row.cpu))
		for _, u := range row.cpu {
			total += u.time
			parts = append(parts, fmt.Sprintf("%s %.1f", u.name, row.perRequest(u.time)))
		}
		cells = append(cells, []string{
			row.load.Name, strconv.Itoa(row.connections), row.side,
			fmt.Sprintf("%.0f", median(row.rates)),
			fmt.Sprintf("%.0f to %.0f", slices.Min(row.rates), slices.Max(row.rates)),
			microseconds(row.result.Latency.Quantile(0.5)), microseconds(row.result.Latency.Quantile(0.99)),
			fmt.Sprintf("%.1f", row.perRequest(total)), strings.Join(parts, ", "),
			strconv.FormatUint(row.result.Errors, 10), strconv.FormatUint(row.result.Broken, 10),
		})
	}
	return align(cells)
}

func microseconds(d time.Duration) string { return strconv.FormatInt(d.Microseconds(), 10) }

// pairs are the sides whose rates are divided.
var pairs = [][2]string{
	{"gateway", "nginx"}, {"gateway", "backend"}, {"traefik", "gateway"}, {"traefik", "backend"},
	{"backend", "sqlite"}, {"backend", "redis"}, {"backend", "etcd"}, {"traefik", "etcd"},
}

// ratios returns a table of medians over the rounds of the ratio of two rates
// within one round.
func (r *results) ratios() string {
	cells := [][]string{{"rate of"}}
	for _, pair := range pairs {
		line := []string{pair[0] + " / " + pair[1]}
		found := false
		for _, load := range r.plan.loads {
			for _, connections := range r.plan.connections {
				a, b := r.row(load.Name, connections, pair[0]), r.row(load.Name, connections, pair[1])
				if a == nil || b == nil {
					line = append(line, "")
					continue
				}
				found = true
				quotients := make([]float64, len(a.rates))
				for i := range quotients {
					quotients[i] = a.rates[i] / b.rates[i]
				}
				line = append(line, fmt.Sprintf("%.2f", median(quotients)))
			}
		}
		if found {
			cells = append(cells, line)
		}
	}
	if len(cells) == 1 {
		return ""
	}
	for _, load := range r.plan.loads {
		for _, connections := range r.plan.connections {
			cells[0] = append(cells[0], fmt.Sprintf("%s %d", load.Name, connections))
		}
	}
	return align(cells)
}

func (r *results) row(load string, connections int, side string) *row {
	for _, row := range r.rows {
		if row.load.Name == load && row.connections == connections && row.side == side {
			return row
		}
	}
	return nil
}

// align makes a Markdown table of the cells, the first line its head.
func align(cells [][]string) string {
	widths := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, cell := range line {
			widths[i] = max(widths[i], len(cell))
		}
	}
	var text strings.Builder
	for n, line := range cells {
		for i, cell := range line {
			fmt.Fprintf(&text, "| %-*s ", widths[i], cell)
		}
		text.WriteString("|\n")
		if n == 0 {
			for _, width := range widths {
				text.WriteString("| " + strings.Repeat("-", max(width, 3)) + " ")
			}
			text.WriteString("|\n")
		}
	}
	return text.String()
}
