package traefik_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// readmeVaries matches what differs between runs: times in answers, and how long a stream asks
// its client to wait before it reconnects.
var readmeVaries = regexp.MustCompile(`("timestamp":|"expires_at":|retry: )[\d.]+`)

// TestReadmeTour runs the commands of the README's tour on an empty store and compares the
// output exactly, except for times. A key must live as long as its command says.
func TestReadmeTour(t *testing.T) {
	newStack(t)
	for _, step := range readmeTour(t) {
		command := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(step.command, "curl ", "curl -sS ", 1))
		out, err := command.CombinedOutput()
		if err != nil && !strings.HasPrefix(step.command, "timeout ") { // which ends a stream
			t.Fatalf("%s: %v\n%s", step.command, err, out)
		}
		got := readmeVaries.ReplaceAllString(strings.TrimSpace(string(out)), "${1}T")
		want := readmeVaries.ReplaceAllString(step.output, "${1}T")
		if got != want {
			t.Errorf("$ %s\n got %s\nwant %s", step.command, got, want)
		}
		checkLife(t, step.command, step.output)
		checkLife(t, step.command, string(out))
	}
}

var readmeTTL = regexp.MustCompile(`[?&]ttl=(\w+)`)

// checkLife fails if a key does not live for the ttl of its command.
func checkLife(t *testing.T, command, answer string) {
	t.Helper()
	ttl := readmeTTL.FindStringSubmatch(command)
	if ttl == nil {
		return
	}
	want, err := time.ParseDuration(ttl[1])
	if err != nil {
		t.Fatal(err)
	}
	var times struct {
		Timestamp float64
		ExpiresAt float64 `json:"expires_at"`
	}
	if err := json.Unmarshal([]byte(answer), &times); err != nil {
		t.Fatal(err)
	}
	life := time.Duration((times.ExpiresAt - times.Timestamp) * float64(time.Second)).Round(time.Microsecond)
	if life != want {
		t.Errorf("$ %s\nshows a key that lives %v: %s", command, life, answer)
	}
}

type readmeStep struct{ command, output string }

// readmeTour reads the blocks of commands in the section Tour.
func readmeTour(t *testing.T) []readmeStep {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## Tour\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var steps []readmeStep
	for _, block := range strings.Split(section, "```console\n")[1:] {
		block, _, _ = strings.Cut(block, "```\n")
		for part := range strings.SplitSeq("\n"+block, "\n$ ") {
			if command, output, ok := strings.Cut(part, "\n"); ok && command != "" {
				steps = append(steps, readmeStep{command, strings.TrimSpace(output)})
			}
		}
	}
	if len(steps) < 20 {
		t.Fatalf("the tour of the README has %d commands", len(steps))
	}
	return steps
}
