package report_test

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kvstore/bench/report"
)

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		numbers []float64
		want    float64
	}{
		{nil, 0},
		{[]float64{7}, 7},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 3, 2}, 2.5},
	} {
		if got := report.Median(test.numbers); got != test.want {
			t.Errorf("of %v: %v, want %v", test.numbers, got, test.want)
		}
	}
}

// A ratio is computed within each round: here, the third round was slow for both.
func TestRatio(t *testing.T) {
	if got := report.Ratio([]float64{20, 22, 2}, []float64{10, 10, 1}); got != 2 {
		t.Errorf("%v, want 2", got)
	}
	if got := report.Ratio([]float64{1, 3, 5, 8}, []float64{0, 1}); got != 3 {
		t.Errorf("with rounds that one of them lacks: %v, want 3", got)
	}
	if got := report.Ratio(nil, nil); got != 0 {
		t.Errorf("of nothing: %v, want 0", got)
	}
}

func TestTable(t *testing.T) {
	got := report.Table([][]string{{"a", "side"}, {"1000", "x"}})
	want := "| a    | side |\n| ---- | ---- |\n| 1000 | x    |\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestChart(t *testing.T) {
	svg := report.Chart("a & b", 2, []report.Panel{
		{Title: "<put>", Bars: []report.Bar{{Name: "long", Value: 1234.5, Colour: "#123456"}, {Name: "half", Value: 617.25}}},
		{Title: "nothing", Bars: []report.Bar{{Name: "none"}}},
		{Title: "empty"},
	})
	decoder := xml.NewDecoder(strings.NewReader(svg))
	var widths []string
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		if element, ok := token.(xml.StartElement); ok && element.Name.Local == "rect" {
			for _, attribute := range element.Attr {
				if attribute.Name.Local == "width" {
					widths = append(widths, attribute.Value)
				}
			}
		}
	}
	// The background; then the longest bar, one of half its length, and none.
	if diff := cmp.Diff([]string{"884", "196.0", "98.0", "0.0"}, widths); diff != "" {
		t.Error(diff)
	}
	for _, text := range []string{"1234<", "617<", "&lt;put&gt;", "#123456"} {
		if !strings.Contains(svg, text) {
			t.Errorf("there is no %s in\n%s", text, svg)
		}
	}
}

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "results")
	started := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	if err := report.Write(dir, started, "sides", "page", "chart", io.Discard); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"2026-03-04-050607-sides.md": "page", report.ChartName(started, "sides"): "chart"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
