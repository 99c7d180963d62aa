// Package report makes the results of a run: statistics of rounds, tables in Markdown, charts in SVG,
// and files.
package report

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Median returns the median, or 0 if there are no numbers.
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

// Ratio returns the median of the quotients of two measurements in the same round. So it ignores
// what slows down a whole round. It omits rounds that only one of them has, or in which b is 0.
func Ratio(a, b []float64) float64 {
	var quotients []float64
	for i := range min(len(a), len(b)) {
		if b[i] != 0 {
			quotients = append(quotients, a[i]/b[i])
		}
	}
	return Median(quotients)
}

// Table returns a Markdown table of the cells. The first line is its head. The columns are aligned for
// the terminal.
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

// Write writes a page and its chart, if there is one, to files in dir. Their names contain the time of
// the start and what was measured. The page refers to the chart by ChartName.
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

// ChartName returns the file name of the chart.
func ChartName(started time.Time, what string) string { return fileName(started, what) + ".svg" }

func fileName(started time.Time, what string) string {
	return started.Format("2006-01-02-150405") + "-" + what
}

// Machine describes the machine in a few lines. dir is the directory of the data.
func Machine(dir string) []string {
	return []string{
		fmt.Sprintf("processor: %s, %d cores, %s", processor(), runtime.NumCPU(), runtime.GOARCH),
		"kernel: Linux " + firstLine("/proc/sys/kernel/osrelease"),
		"file system of the data: " + fileSystem(dir),
		"load average before the first measurement: " + firstLine("/proc/loadavg"),
		"Go: " + runtime.Version(),
	}
}

func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// fileSystem returns the type of the file system, because one in memory makes fsync free.
func fileSystem(dir string) string {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		return "unknown"
	}
	known := map[int64]string{
		0xEF53: "ext4", 0x58465342: "XFS", 0x9123683E: "Btrfs", 0x2FC12FC1: "ZFS", 0x794C7630: "overlayfs",
		0x01021994: "tmpfs: in memory, so nothing here says what a durable write costs",
	}
	if name := known[stat.Type]; name != "" {
		return name
	}
	return fmt.Sprintf("type %#x", stat.Type)
}
