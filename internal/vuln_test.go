package internal_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

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
		{"called", database("AppendInt"), "GO-2026-0001", true},
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
