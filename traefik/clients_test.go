package traefik_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestGeneratedClients lets clients that are generated from the OpenAPI document write
// and read.
func TestGeneratedClients(t *testing.T) {
	runInRoot(t, "go", "tool", "task", "clients")
	newStack(t)
	t.Run("Go", func(t *testing.T) { runInRoot(t, "bin/clients", "http://"+webAddress) })
	t.Run("TypeScript", func(t *testing.T) {
		const script = "internal/openapi/clients/kvclient/main.js"
		if _, err := os.Stat(filepath.Join(root, script)); err != nil {
			t.Skip("the task clients did not make it, and says why")
		}
		runInRoot(t, "node", script, "http://"+webAddress)
	})
}

func runInRoot(t *testing.T, name string, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Dir = root
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	t.Logf("%s", out)
}
