package traefik_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// exchanges are the answers through Traefik, which are compared with the OpenAPI document
// after all tests.
var exchanges struct {
	mu   sync.Mutex // guards writes
	file *os.File
	// stacks counts running services. Answers of Traefik in front of a test's own handler are
	// not recorded.
	stacks atomic.Int32
}

// record records an answer. Traefik's own answers are not in the document.
func record(method, target string, r response) {
	if exchanges.stacks.Load() == 0 {
		return
	}
	if slices.Contains(traefiksOwn, r.status) && !strings.HasPrefix(r.header.Get("Content-Type"), "application/problem+json") {
		return
	}
	line, err := json.Marshal(map[string]any{
		"Method": method, "Target": target, "Status": r.status, "Header": r.header, "Body": []byte(r.body),
	})
	if err != nil {
		return // never happens for a map of plain values
	}
	exchanges.mu.Lock()
	defer exchanges.mu.Unlock()
	_, _ = exchanges.file.Write(append(line, '\n'))
}

// traefiksOwn are the errors of Traefik itself; 404 is before it has its routes.
var traefiksOwn = []int{
	http.StatusBadRequest, http.StatusNotFound, http.StatusTooManyRequests, http.StatusRequestHeaderFieldsTooLarge,
	http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
}

// startRecording opens a file for the exchanges in dir.
func startRecording(dir string) (err error) {
	exchanges.file, err = os.Create(filepath.Join(dir, "exchanges"))
	return err
}

// checkExchanges returns an error if an answer did not match the document.
func checkExchanges() error {
	if _, err := exchanges.file.Seek(0, 0); err != nil {
		return err
	}
	check := exec.Command("go", "run", "./internal/openapi", "check", "backend/docs/openapi.json")
	check.Dir, check.Stdin, check.Stdout, check.Stderr = root, exchanges.file, os.Stdout, os.Stderr
	return check.Run()
}

// TestGeneratedClients writes and reads with clients that are generated from the OpenAPI
// document.
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
