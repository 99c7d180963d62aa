package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"kvstore/bench/generator"
	"kvstore/bench/report"
)

// results are the results of a run over HTTP.
type results struct {
	title    string
	what     string // in the names of the files
	intro    string // a paragraph
	pairs    [][2]string
	plan     *plan
	machine  []string
	versions map[string]string // of the programs of each side
	started  time.Time
	rows     []*row
	more     string // in Markdown, after the tables
}

// write writes the tables to out and all results to files in dir.
func (r *results) write(dir string, out io.Writer) error {
	fmt.Fprintf(out, "\n%s", r.tables())
	return report.Write(dir, r.started, r.what, r.markdown(), r.chart(), out)
}

// check returns an error if an answer was wrong or missing.
func (r *results) check() error {
	errs := slices.Clone(r.plan.wrong)
	for _, row := range r.rows {
		if row.result.Errors+row.result.Broken > 0 {
			errs = append(errs, fmt.Errorf("%s, %d connections, %s: %d wrong answers, %d broken connections, the first: %s",
				row.load.Name, row.connections, row.side, row.result.Errors, row.result.Broken, row.result.Error))
		}
	}
	return errors.Join(errs...)
}

func (r *results) markdown() string {
	var text strings.Builder
	fmt.Fprintf(&text, "# %s, %s\n\n![rates](%s)\n\n",
		r.title, r.started.Format("2006-01-02 15:04 MST"), report.ChartName(r.started, r.what))
	fmt.Fprintf(&text, "%s%d rounds; in each, every side in turn for %s, after a warm-up of %s with the same load. README.md explains what is measured and how.\n\n",
		r.intro, r.plan.rounds, r.plan.duration, r.plan.duration/warmUp)
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
	fmt.Fprintf(&text, "\n%s", r.tables())
	if err := r.check(); err != nil {
		fmt.Fprintf(&text, "\n```\n%v\n```\n", err)
	}
	return text.String()
}

// tables returns the table, the ratios and the results of the final checks.
func (r *results) tables() string {
	var text strings.Builder
	text.WriteString(r.table())
	text.WriteString(r.ratios("rate of", func(row *row) []float64 { return row.rates }))
	text.WriteString(r.ratios("p50 of", func(row *row) []float64 { return row.p50s }))
	text.WriteString(r.ratios("p99 of", func(row *row) []float64 { return row.p99s }))
	text.WriteString(r.ratios("CPU of", func(row *row) []float64 { return row.cpus }))
	if len(r.plan.checks) > 0 {
		text.WriteString("\nFinal checks:\n\n")
	}
	for _, check := range r.plan.checks {
		text.WriteString("- " + check + "\n")
	}
	text.WriteString(r.more)
	return text.String()
}

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
			fmt.Sprintf("%.0f", report.Median(row.rates)),
			fmt.Sprintf("%.0f to %.0f", slices.Min(row.rates), slices.Max(row.rates)),
			microseconds(row.result.Latency.Quantile(0.5)), microseconds(row.result.Latency.Quantile(0.99)),
			fmt.Sprintf("%.1f", row.perRequest(total)), strings.Join(parts, ", "),
			strconv.FormatUint(row.result.Errors, 10), strconv.FormatUint(row.result.Broken, 10),
		})
	}
	return report.Table(cells)
}

func microseconds(d time.Duration) string { return strconv.FormatInt(d.Microseconds(), 10) }

// ratios returns an empty line and a table of the ratios of these numbers for each pair of sides,
// or "" if no pair was measured.
func (r *results) ratios(name string, numbers func(*row) []float64) string {
	cells := [][]string{{name}}
	for _, pair := range r.pairs {
		line := []string{pair[0] + " / " + pair[1]}
		found := false
		for _, load := range r.plan.loads {
			for _, connections := range r.plan.connections {
				a, b := r.row(load, connections, pair[0]), r.row(load, connections, pair[1])
				if a == nil || b == nil {
					line = append(line, "")
					continue
				}
				found = true
				line = append(line, quotient(report.Ratio(numbers(a), numbers(b))))
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
	return "\n" + report.Table(cells)
}

// quotient formats a ratio, with more digits if it is small.
func quotient(ratio float64) string {
	if ratio < 0.1 {
		return fmt.Sprintf("%.4f", ratio)
	}
	return fmt.Sprintf("%.2f", ratio)
}

func (r *results) row(load generator.Load, connections int, side string) *row {
	for _, row := range r.rows {
		if row.load.Name == load.Name && row.connections == connections && row.side == side {
			return row
		}
	}
	return nil
}

// colours are the colours of the sides. Ours are blue.
var colours = map[string]string{
	"backend": "#1f5fa8", "gateway": "#3f83cc", "traefik": "#7fb0e6",
	"nginx": "#4d9b5f", "etcd": "#c77d2e", "redis": "#b8433d",
	"predecessor": "#7a4fa3", "predecessor-repaired": "#a98bc7",
	"postgres": "#3f83cc", "postgres-sync": "#7fb0e6", "postgres-3": "#a9cbee",
	"etcd-3": "#c77d2e", "kine": "#d9a441",
}

// chart returns an SVG: a panel for each load (downwards) and number of
// connections (across).
func (r *results) chart() string {
	panels := make([]report.Panel, 0, len(r.plan.loads)*len(r.plan.connections))
	for _, load := range r.plan.loads {
		for _, connections := range r.plan.connections {
			unit := "connections"
			if connections == 1 {
				unit = "connection"
			}
			panel := report.Panel{Title: fmt.Sprintf("%s, %d %s: requests/s", load.Name, connections, unit)}
			for _, s := range r.plan.sides {
				if row := r.row(load, connections, s.name()); row != nil {
					panel.Bars = append(panel.Bars, report.Bar{Name: s.name(), Value: report.Median(row.rates),
						Colour: colours[s.name()]})
				}
			}
			panels = append(panels, panel)
		}
	}
	title := fmt.Sprintf("Requests per second, medians of %d rounds; each panel has its own scale", r.plan.rounds)
	return report.Chart(title, len(r.plan.connections), panels)
}
