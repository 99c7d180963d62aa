package traefik_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// A meter is a quantity of a process or of the disk that must not grow.
type meter struct {
	of, name, unit string
	values         []float64
	// percent and noise are how much the last third may exceed the first, relatively and
	// absolutely, once the service has run for minutes.
	percent, noise float64
}

// meters measure the processes and the directory of the database.
type meters struct {
	s       *stack
	dir     string
	metrics map[string]string // process -> URL of its metrics
	all     []*meter          // in the order of the table
}

func newMeters(t *testing.T, s *stack, dir string) *meters {
	t.Helper()
	m := &meters{s: s, dir: dir, metrics: map[string]string{}}
	for _, p := range []*process{s.backend, s.gateway} {
		m.metrics[p.name] = metricsURL(t, p)
	}
	return m
}

// metricsURL returns the URL of the metrics of a process, from its log.
func metricsURL(t *testing.T, p *process) string {
	t.Helper()
	url := ""
	eventually(t, p.name+" serves metrics", func() error {
		lines := p.log.lines("metrics are served")
		if len(lines) == 0 {
			return errors.New("it does not say where")
		}
		var said struct{ Address, Path string }
		err := json.Unmarshal([]byte(lines[0]), &said)
		url = "http://" + said.Address + said.Path
		return err
	})
	return url
}

// add appends a value to the named meter, which it creates if necessary.
func (m *meters) add(of, name, unit string, value, percent, noise float64) {
	for _, known := range m.all {
		if known.of == of && known.name == name {
			known.values = append(known.values, value)
			return
		}
	}
	m.all = append(m.all, &meter{of: of, name: name, unit: unit, values: []float64{value}, percent: percent, noise: noise})
}

const kibibyte = 1 << 10

// take samples everything once. The allowed noise covers what varies by itself: the garbage
// collector and the memory that it returns, threads that Go creates for blocked system calls,
// and pools of connections with their goroutines. A leak in one request of a thousand is far
// above it within an hour.
func (m *meters) take(t *testing.T) {
	t.Helper()
	for _, p := range m.s.processes() {
		proc := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
		m.add(p.name, "resident", "KiB", float64(p.residentBytes(t)/kibibyte), 10, 16<<10)
		m.add(p.name, "threads", "", float64(entries(t, proc+"task")), 10, 4)
		m.add(p.name, "open files", "", float64(entries(t, proc+"fd")), 10, 16)
		url := m.metrics[p.name]
		if url == "" {
			continue
		}
		values := scrape(t, url)
		m.add(p.name, "goroutines", "", values["go_goroutines"], 10, 16)
		m.add(p.name, "heap", "KiB", values["go_memstats_heap_alloc_bytes"]/kibibyte, 10, 8<<10)
		// The heap goal is a multiple of the live heap after the last collection.
		m.add(p.name, "heap goal", "KiB", values["go_memstats_next_gc_bytes"]/kibibyte, 10, 4<<10)
	}
	m.add("disk", "database and logs", "KiB", float64(sizeOf(t, m.dir))/kibibyte, 10, 4<<10)
}

func entries(t *testing.T, dir string) int {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

// sizeOf returns the size of the files below dir, which may disappear at any time.
func sizeOf(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil {
				bytes += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// scrape returns the metrics without labels.
func scrape(t *testing.T, url string) map[string]float64 {
	t.Helper()
	client := &http.Client{Timeout: patience}
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v", url, answer.StatusCode, err)
	}
	values := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		if value, err := strconv.ParseFloat(number, 64); err == nil {
			values[name] = value
		}
	}
	return values
}

func (m *meters) last(of, name string) float64 {
	for _, known := range m.all {
		if known.of == of && known.name == name {
			return known.values[len(known.values)-1]
		}
	}
	return 0
}

func (m *meters) printHead() {
	fmt.Println("soak: each minute, for backend, gateway and Traefik: resident MiB; goroutines (threads of Traefik); open files")
}

func (m *meters) printLine(elapsed time.Duration, answers int) {
	var b strings.Builder
	fmt.Fprintf(&b, "soak: %3.0f min, %9d answers (%.0f/s);", elapsed.Minutes(), answers, float64(answers)/elapsed.Seconds())
	for _, p := range m.s.processes() {
		running := "goroutines"
		if m.metrics[p.name] == "" {
			running = "threads"
		}
		fmt.Fprintf(&b, " %s %.0f %.0f %.0f;", p.name, m.last(p.name, "resident")/1024, m.last(p.name, running), m.last(p.name, "open files"))
	}
	fmt.Fprintf(&b, " disk %.1f MiB", m.last("disk", "database and logs")/1024)
	fmt.Println(b.String())
}

// settled is the shortest run for which the noise of the meters applies. In a shorter run,
// caches, pools and the collector have not settled, so the noise is multiplied by unsettled, and
// the database, which takes minutes to fill, is not judged.
const settled, unsettled = 10 * time.Minute, 4

// judge prints the table and fails the test if a meter has grown. It ignores the first tenth of
// the samples, in which the service warms up. Of the rest, the median of the last third must not
// exceed that of the first by more than the noise. Medians ignore single events such as a
// collection, a backup or a burst of another program.
func (s *soak) judge(m *meters, duration time.Duration) {
	factor := 1.0
	if duration < settled {
		factor = unsettled
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\nof\twhat\tsamples\tfirst third\tlast third\tmay be\tmost\t\t\t")
	for _, one := range m.all {
		values := one.values[len(one.values)/10:]
		third := len(values) / 3
		if third == 0 {
			s.t.Fatalf("%d samples of %s", len(one.values), one.of)
		}
		first, last := median(values[:third]), median(values[len(values)-third:])
		most := first + factor*(first*one.percent/100+one.noise)
		verdict := "flat"
		switch {
		case one.of == "disk" && duration < settled:
			verdict = "fills"
		case last > most:
			verdict = "GROWS"
			s.t.Errorf("%s: %s: from %.0f to %.0f %s", one.of, one.name, first, last, one.unit)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%s\t%s\t\n", one.of, one.name, len(one.values), first, last, most, slices.Max(one.values), one.unit, verdict)
	}
	_ = w.Flush()
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
