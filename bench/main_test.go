package main_test

import (
	"io"
	"slices"
	"strings"
	"testing"

	bench "kvstore/bench"
)

func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out strings.Builder
	err := bench.Run(t.Context(), args, strings.NewReader(""), &out)
	return out.String(), err
}

func TestHelp(t *testing.T) {
	for _, command := range [][]string{{}, {"cache"}, {"store"}, {"growth"}, {"cluster"}, {"capacity"}} {
		text, err := run(t, append(command, "--help")...)
		for _, want := range []string{"-duration", "-rounds", "-out"} {
			if err != nil || !strings.Contains(text, want) {
				t.Errorf("%v: %v, no %s in\n%s", command, err, want, text)
			}
		}
	}
	if text, _ := run(t, "--help"); !strings.Contains(text, "go run . growth") || !strings.Contains(text, "predecessor") {
		t.Errorf("commands and sides are missing in\n%s", text)
	}
}

func TestMistakes(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"nonsense"}, "no command"},
		{[]string{"--duration", "0s"}, "--duration"},
		{[]string{"--connections", "0"}, "--connections"},
		{[]string{"--loads", "put,nonsense"}, "--loads"},
		{[]string{"cache", "--goroutines", "x"}, "--goroutines"},
		{[]string{"cache", "--keys", "1"}, "--keys"},
		{[]string{"store", "--callers", ""}, "--callers"},
		{[]string{"store", "more"}, "no arguments"},
		{[]string{"growth", "--sizes", "15"}, "multiple"},
		{[]string{"cluster", "--rounds", "0"}, "--rounds"},
		{[]string{"capacity", "more"}, "no arguments"},
		{[]string{"growth", "--sizes", "10,10"}, "repeated"},
		{[]string{"growth", "--sizes", "1000000000", "--dir", "/proc"}, "--sizes"},
	} {
		if _, err := run(t, test.args...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: %v, want an error with %q", test.args, err, test.want)
		}
	}
}

func TestTables(t *testing.T) {
	measured := []bench.Measured{
		{Load: "put", Connections: 1, Side: "a", Rates: []float64{100, 300, 200}, P50s: []float64{9, 3, 6}},
		{Load: "put", Connections: 1, Side: "b", Rates: []float64{50, 100, 100}, P50s: []float64{3, 3, 3}},
		{Load: "put", Connections: 16, Side: "a", Rates: []float64{10}, P50s: []float64{1}},
	}
	text, err := bench.Tables(measured, [][2]string{{"a", "b"}, {"a", "nobody"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		// The median and its range, then of each request the processor time and its parts.
		"| put  | 1     | a    | 200        | 100 to 300",
		"| 40.0           | backend 30.0, generator 10.0 |",
		"| rate of | put 1 | put 16 |", "| a / b   | 2.00  |        |",
		"| CPU of | put 1 | put 16 |",
		"| p50 of | put 1 | put 16 |", "| a / b  | 2.00  |        |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "nobody") {
		t.Errorf("a pair that was not measured is in\n%s", text)
	}
	measured[1].Wrong = 3
	if _, err := bench.Tables(measured, nil); err == nil || !strings.Contains(err.Error(), "3 wrong answers") {
		t.Errorf("%v, want an error about the wrong answers", err)
	}
}

func TestBetween(t *testing.T) {
	for _, test := range []struct {
		found, acknowledged, unknown uint64
		ok                           bool
	}{{10, 10, 0, true}, {9, 10, 0, false}, {11, 10, 0, false}, {11, 10, 1, true}, {12, 10, 1, false}} {
		if err := bench.Between("it", test.found, test.acknowledged, test.unknown); (err == nil) != test.ok {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

func TestNumbers(t *testing.T) {
	if got, err := bench.Numbers("n", "1,64", 64); err != nil || !slices.Equal(got, []int{1, 64}) {
		t.Errorf("%v, %v", got, err)
	}
	for n, want := range map[int64]string{10: "10", 10_000: "10k", 1_500_000: "1500k", 10_000_000: "10M"} {
		if got := bench.ShortNumber(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

// The process of the SQLite side executes orders and reports the results.
func TestSQLiteLoads(t *testing.T) {
	in, orders := io.Pipe()
	defer orders.Close()
	go func() {
		_, _ = io.WriteString(orders, `{"Load":"put","Connections":16,"Fill":true}{"Load":"put","Connections":16,"Duration":5000000}{"Load":"nonsense"}`)
		orders.Close()
	}()
	var out strings.Builder
	if err := bench.Run(t.Context(), []string{"sqlite-loads", t.TempDir()}, in, &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], `"Requests":1000,`) || !strings.Contains(lines[2], `no load`) {
		t.Errorf("%.200q", lines)
	}
}
