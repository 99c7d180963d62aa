package internal_test

import (
	"io/fs"
	"os"
	"os/exec"
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

// TestVulnTask runs the task vuln on a small package with handmade databases. It must fail
// if the package calls a vulnerable function, but not if it does not call it, and not if
// the database is not reachable.
func TestVulnTask(t *testing.T) {
	if testing.Short() {
		t.Skip("builds govulncheck")
	}
	// database has one vulnerability, in a symbol of package strconv in any Go version.
	database := func(symbol string) string {
		dir := t.TempDir()
		for name, text := range map[string]string{
			"index/db.json":      `{"modified":"2026-01-01T00:00:00Z"}`,
			"index/modules.json": `[{"path":"stdlib","vulns":[{"id":"GO-2026-0001","modified":"2026-01-01T00:00:00Z"}]}]`,
			"ID/GO-2026-0001.json": `{"schema_version":"1.3.1","id":"GO-2026-0001","modified":"2026-01-01T00:00:00Z","summary":"made by hand",
				"database_specific":{"url":"https://pkg.go.dev/vuln/GO-2026-0001"},
				"affected":[{"package":{"name":"stdlib","ecosystem":"Go"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}],
				"ecosystem_specific":{"imports":[{"path":"strconv","symbols":["` + symbol + `"]}]}}]}`,
		} {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	for _, c := range []struct {
		name, database, says string
		fails                bool
	}{
		{"called", database("AppendInt"), "affected by 1 vulnerability", true},
		{"not called", database("NoSuchFunction"), "affected by 0 vulnerabilities", false},
		{"no database", filepath.Join(t.TempDir(), "none"), "is not reachable, so nothing was looked up", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			// kv calls strconv and imports only the standard library.
			cmd := exec.CommandContext(t.Context(), "go", "tool", "task", "vuln", "VULNDB=file://"+c.database, "MODULES=backend/kv")
			cmd.Dir = ".."
			output, err := cmd.CombinedOutput()
			if (err != nil) != c.fails || !strings.Contains(string(output), c.says) {
				t.Errorf("%v, want failure = %t and %q in\n%s", err, c.fails, c.says, output)
			}
		})
	}
}
