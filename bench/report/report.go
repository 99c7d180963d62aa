// Package report makes the results of a run: numbers over its rounds, tables in
// Markdown, charts in SVG, and the files that hold them.
package report

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Median returns the median, and 0 of nothing.
func Median(numbers []float64) float64 {
	if len(numbers) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(numbers))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Ratio returns the median of the quotients of two measurements of the same
// round, so that what slowed down a whole round does not count. Rounds that only
// one of them has, or in which b is 0, are left out.
func Ratio(a, b []float64) float64 {
	var quotients []float64
	for i := range min(len(a), len(b)) {
		if b[i] != 0 {
			quotients = append(quotients, a[i]/b[i])
		}
	}
	return Median(quotients)
}

// Table makes a Markdown table of the cells, the first line its head. Its columns
// are aligned, so that it is read as well on a terminal.
func Table(cells [][]string) string {
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

// Write writes a page and its chart, when there is one, to files in dir that are
// named after the time of the start and what was measured. The page names the
// chart as the result of ChartName.
func Write(dir string, started time.Time, what, page, chart string, progress io.Writer) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	files := map[string]string{fileName(started, what) + ".md": page}
	if chart != "" {
		files[ChartName(started, what)] = chart
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
		fmt.Fprintln(progress, "written:", path)
	}
	return nil
}

// ChartName returns the name of the file that Write gives to the chart.
func ChartName(started time.Time, what string) string { return fileName(started, what) + ".svg" }

func fileName(started time.Time, what string) string {
	return started.Format("2006-01-02-150405") + "-" + what
}
