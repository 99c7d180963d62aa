package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"kvstore/internal/settings"
)

// Exit codes of a program, besides 0 after a clean stop.
const (
	ExitFailed        = 1
	ExitConfiguration = 2 // the settings have mistakes
)

// Main runs a program, writes its error to stderr and returns its exit code. SIGINT and
// SIGTERM cancel the context of run. A second signal kills the process.
func Main(name string, run func(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error) int {
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer restore()
	defer context.AfterFunc(ctx, restore)()
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	}
	return ExitCode(err)
}

// ExitCode returns the exit code of a program that ends with err.
func ExitCode(err error) int {
	var mistakes *settings.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &mistakes):
		return ExitConfiguration
	default:
		return ExitFailed
	}
}

const healthcheckTimeout = 3 * time.Second

// Dialable returns the address at which a server that listens on address can be reached
// from the same machine.
func Dialable(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port), nil
}

// Healthcheck returns nil if the server that listens on address answers GET path with 200.
// Containers without a shell use it.
func Healthcheck(ctx context.Context, address, path string) error {
	dialable, err := Dialable(address)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+dialable+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("healthcheck: %s answers %s", request.URL, response.Status)
	}
	return nil
}

const (
	unknownVersion = "dev"
	commitDigits   = 12 // in VersionLine
)

var (
	// Version is the version of the program: a tag, or the output of git describe, with
	// "dirty" appended if files were changed. The linker sets it (-X). Otherwise it is what
	// the go tool recorded, such as after "go install PACKAGE@VERSION", or else "dev".
	Version string
	// Commit is the full commit that the program was built from, or "" if it is unknown.
	// The linker sets it.
	Commit string
)

func init() {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	Version, Commit = builtFrom(Version, Commit, info)
}

// builtFrom returns the version and commit. What the linker set takes precedence over what
// the go tool recorded.
func builtFrom(version, commit string, info *debug.BuildInfo) (string, string) {
	if version == "" || version == unknownVersion {
		version = info.Main.Version
	}
	if version == "" || version == "(devel)" {
		version = unknownVersion
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && commit == "" {
			commit = setting.Value
		}
	}
	return version, commit
}

// VersionLine returns the answer to --version, such as
// "backend v1.2.0 (commit 5f0c3a9d1b2e, go1.26.8, linux/amd64)".
func VersionLine(program string) string {
	details := []string{runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
	if Commit != "" {
		details = append([]string{"commit " + Commit[:min(len(Commit), commitDigits)]}, details...)
	}
	return fmt.Sprintf("%s %s (%s)", program, Version, strings.Join(details, ", "))
}
