package capacity_test

import (
	"bytes"
	"encoding/xml"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kvstore/bench/capacity"
)

// The picture that is checked in is that of the constants that are.
func TestPicture(t *testing.T) {
	c, err := capacity.Measured()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("capacity.svg")
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(want, new(struct{})); err != nil || bytes.Contains(want, []byte("%!")) {
		t.Errorf("it is not well formed: %v", err)
	}
	if diff := cmp.Diff(string(want), capacity.Draw(c, capacity.PictureCores)); diff != "" {
		t.Errorf("go run . capacity --draw makes another picture:\n%s", diff)
	}
}

func constants() capacity.Constants {
	return capacity.Constants{
		WriteTrips: 5, Step: 0.001, Row: 0.00001, WriteBackend: 0.0001, WriteServer: 0.00005, FollowServer: 0.0005,
		ReadTrips: 1, Ask: 0.0001, ReadBackend: 0.00005, ReadServer: 0.00005,
	}
}

func TestWrites(t *testing.T) {
	c := constants()
	for _, test := range []struct {
		name  string
		setup capacity.Setup
		want  float64
	}{
		// 4 round trips of 1 ms, a commit of 5 ms, 1 ms, and the row.
		{"One", capacity.Setup{Backends: 1, Callers: 1, RoundTrip: 0.001, Commit: 0.005, Cores: 2}, 1 / 0.01001},
		{"Half", capacity.Setup{Backends: 1, Callers: 64, RoundTrip: 0.001, Commit: 0.005, Cores: 2}, 32 / 0.01032},
		{"LargestBatch", capacity.Setup{Backends: 1, Callers: 1000, RoundTrip: 0.001, Commit: 0.005, Cores: 2}, 128 / 0.01128},
		{"Backend", capacity.Setup{Backends: 1, Callers: 256, Commit: 0.0001, Cores: 1}, 10_000},
		{"Followers", capacity.Setup{Backends: 101, Callers: 64, Commit: 0.0001, Cores: 2}, 2 / (0.00005 + 100*0.0005/32)},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := c.Writes(test.setup); got < test.want*0.999 || got > test.want*1.001 {
				t.Errorf("%.1f writes/s, want %.1f", got, test.want)
			}
		})
	}
}

func TestReads(t *testing.T) {
	c := constants()
	setup := capacity.Setup{Backends: 1, Callers: 64, RoundTrip: 0.0009, Cores: 2}
	if got := c.Reads(setup); got < 31_990 || got > 32_010 { // 32 in each millisecond
		t.Errorf("%.1f reads/s, want 32,000", got)
	}
	// The server answers 40,000 questions/s. With 8 backends each is for 4 reads, and 8 backends could answer 320,000.
	setup.Callers, setup.RoundTrip = 64, 0
	setup.Backends = 8
	if got := c.Reads(setup); got < 159_900 || got > 160_100 {
		t.Errorf("%.1f reads/s, want 160,000", got)
	}
	if best := c.BestBackends(setup, 20); best != 5 && best != 6 {
		t.Errorf("most reads with %d backends, want 5 or 6", best)
	}
}
