package traefik_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// readmeTimes are what differs from run to run: the times in the answers.
var readmeTimes = regexp.MustCompile(`"timestamp":\d+\.\d{6}`)

// TestReadmeTour types the commands of the README's tour on an empty store and
// compares what comes out, to the letter but for the times.
func TestReadmeTour(t *testing.T) {
	newStack(t)
	for _, step := range readmeTour(t) {
		command := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(step.command, "curl ", "curl -sS ", 1))
		out, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", step.command, err, out)
		}
		got := readmeTimes.ReplaceAllString(strings.TrimSpace(string(out)), `"timestamp":T`)
		want := readmeTimes.ReplaceAllString(step.output, `"timestamp":T`)
		if got != want {
			t.Errorf("$ %s\n got %s\nwant %s", step.command, got, want)
		}
	}
}

type readmeStep struct{ command, output string }

// readmeTour reads the first block of commands in the section Tour.
func readmeTour(t *testing.T) []readmeStep {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## Tour\n")
	_, block, _ := strings.Cut(section, "```console\n")
	block, _, _ = strings.Cut(block, "```\n")
	var steps []readmeStep
	for part := range strings.SplitSeq(block, "$ ") {
		if command, output, ok := strings.Cut(part, "\n"); ok {
			steps = append(steps, readmeStep{command, strings.TrimSpace(output)})
		}
	}
	if len(steps) < 5 {
		t.Fatalf("the tour of the README has %d commands", len(steps))
	}
	return steps
}
