package internal_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var fuzzTarget = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(f \*testing\.F\)`)

// TestCorpora checks that each fuzz target has a corpus in the repository, and each corpus a
// target. The task fuzz finds the targets in the same way.
func TestCorpora(t *testing.T) {
	targets := 0
	for _, root := range []string{"../backend", "../gateway", "../internal"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() && filepath.Base(filepath.Dir(path)) == "fuzz" && filepath.Base(filepath.Dir(filepath.Dir(path))) == "testdata" {
				return corpusHasTarget(t, path)
			}
			if !strings.HasSuffix(path, "_test.go") {
				return nil
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, found := range fuzzTarget.FindAllSubmatch(text, -1) {
				targets++
				corpus := filepath.Join(filepath.Dir(path), "testdata", "fuzz", string(found[1]))
				if inputs, err := os.ReadDir(corpus); err != nil || len(inputs) == 0 {
					t.Errorf("%s has no corpus in %s: run the target for some minutes and copy interesting inputs from the go tool's cache", found[1], corpus)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if targets == 0 {
		t.Error("no fuzz target was found")
	}
}

// corpusHasTarget looks for the target of a corpus in the tests of its package.
func corpusHasTarget(t *testing.T, corpus string) error {
	t.Helper()
	tests, err := filepath.Glob(filepath.Join(corpus, "../../../*_test.go"))
	if err != nil {
		return err
	}
	for _, test := range tests {
		text, err := os.ReadFile(test)
		if err != nil {
			return err
		}
		if strings.Contains(string(text), "func "+filepath.Base(corpus)+"(") {
			return nil
		}
	}
	t.Errorf("%s has no fuzz target", corpus)
	return nil
}
