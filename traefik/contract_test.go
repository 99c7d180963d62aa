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
)

// exchanges are the answers that came through Traefik, for a check against the
// OpenAPI document when all tests have run.
var exchanges struct {
	mu   sync.Mutex // guards what is written
	file *os.File
	// stacks counts the whole services that run: Traefik in front of a handler of a
	// test answers what it likes.
	stacks atomic.Int32
}

// record keeps an answer. Those that Traefik made itself are not in the document.
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
		return // a map of plain values does not fail
	}
	exchanges.mu.Lock()
	defer exchanges.mu.Unlock()
	_, _ = exchanges.file.Write(append(line, '\n'))
}

// traefiksOwn are the errors that Traefik answers by itself, 404 before it has its
// routes.
var traefiksOwn = []int{
	http.StatusBadRequest, http.StatusNotFound, http.StatusTooManyRequests, http.StatusRequestHeaderFieldsTooLarge,
	http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
}

// startRecording opens the file of the exchanges in dir.
func startRecording(dir string) (err error) {
	exchanges.file, err = os.Create(filepath.Join(dir, "exchanges"))
	return err
}

// checkExchanges fails when an answer was not what the document says.
func checkExchanges() error {
	if _, err := exchanges.file.Seek(0, 0); err != nil {
		return err
	}
	check := exec.Command("go", "run", "./internal/openapi", "check", "backend/docs/openapi.json")
	check.Dir, check.Stdin, check.Stdout, check.Stderr = root, exchanges.file, os.Stdout, os.Stderr
	return check.Run()
}
