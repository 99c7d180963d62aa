// Package traefik_test tests the whole service from the outside: backend, gateway and Traefik
// as processes, with the configuration in this directory, over HTTP on 127.0.0.1:8000.
//
// It needs ports 8000 and 8002 and, for the launcher, 8001 and 8080; for its cluster, PostgreSQL's
// programs and ports 8011, 8012, 8081 to 8083, 5442 and 5443. The first run builds Traefik, which
// takes minutes. KV_BACKEND_BIN, KV_GATEWAY_BIN and KV_TRAEFIK_BIN name programs to test instead of
// building them.
package traefik_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	root       = ".." // of the repository, the working directory of the programs
	webAddress = "127.0.0.1:8000"
)

// programs are the paths of the tested programs; launcher is internal/up.
var programs struct{ backend, gateway, traefik, launcher string }

func TestMain(m *testing.M) {
	code, err := setUpAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func setUpAndRun(m *testing.M) (code int, err error) {
	for _, port := range []string{"8000", "8001", "8002", "8080"} {
		listener, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return 0, fmt.Errorf("the port must be free: %w", err)
		}
		_ = listener.Close()
	}
	scratch, err := os.MkdirTemp("", "kv-e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(scratch)
	programs.launcher = filepath.Join(scratch, "up")
	build := exec.Command("go", "build", "-o", programs.launcher, "./internal/up")
	build.Dir, build.Stderr = root, os.Stderr
	if err := build.Run(); err != nil {
		return 0, fmt.Errorf("build the launcher: %w", err)
	}
	if err := buildPrograms(); err != nil {
		return 0, err
	}
	if err := startRecording(scratch); err != nil {
		return 0, err
	}
	code = m.Run()
	if err := checkExchanges(); err != nil {
		return 0, fmt.Errorf("answers differ from the OpenAPI document: %w", err)
	}
	return code, nil
}

// buildPrograms builds or finds the three programs with the launcher.
func buildPrograms() error {
	var output bytes.Buffer
	launcher := exec.Command(programs.launcher, "--build-only")
	launcher.Dir, launcher.Stdout, launcher.Stderr = root, io.MultiWriter(&output, os.Stderr), os.Stderr
	if err := launcher.Run(); err != nil {
		return fmt.Errorf("build the programs: %w", err)
	}
	paths := map[string]*string{"backend": &programs.backend, "gateway": &programs.gateway, "traefik": &programs.traefik}
	for scanner := bufio.NewScanner(&output); scanner.Scan(); {
		name, path, _ := strings.Cut(scanner.Text(), " ")
		if target, ok := paths[name]; ok {
			*target = path
		}
	}
	for name, path := range paths {
		if *path == "" {
			return fmt.Errorf("the launcher did not say where %s is", name)
		}
	}
	return nil
}
