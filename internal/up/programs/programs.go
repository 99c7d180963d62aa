// Package programs builds or finds the three programs of the service.
package programs

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Paths are the absolute paths of the programs.
type Paths struct {
	Backend, Gateway, Traefik string
}

// Build builds the backend and the gateway of the repository at root into its directory bin,
// with the version from Version, and gets Traefik with the function Traefik. It uses the
// programs in KV_BACKEND_BIN, KV_GATEWAY_BIN and KV_TRAEFIK_BIN instead, if they are set.
// When ctx ends, the build stops and leaves no incomplete program behind.
func Build(ctx context.Context, root string, getenv func(string) string, progress io.Writer) (Paths, error) {
	progress = &locked{w: progress}
	bin := filepath.Join(root, "bin")
	paths := Paths{Backend: getenv("KV_BACKEND_BIN"), Gateway: getenv("KV_GATEWAY_BIN"), Traefik: getenv("KV_TRAEFIK_BIN")}
	group, ctx := errgroup.WithContext(ctx)
	var packages []string
	if paths.Backend == "" {
		paths.Backend = filepath.Join(bin, "backend")
		packages = append(packages, "./backend")
	}
	if paths.Gateway == "" {
		paths.Gateway = filepath.Join(bin, "gateway")
		packages = append(packages, "./gateway")
	}
	if len(packages) > 0 {
		version, commit := Version(ctx, root, getenv)
		group.Go(func() error { return build(ctx, root, bin, version, commit, packages) })
	}
	if paths.Traefik == "" {
		group.Go(func() (err error) {
			paths.Traefik, err = Traefik(ctx, root, progress)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return Paths{}, err
	}
	return paths, nil
}

// build produces the same bytes regardless of where the repository and the Go module cache
// are: it omits their paths (-trimpath), and what the go tool reads from git, which depends
// on the clone.
func build(ctx context.Context, root, bin, version, commit string, packages []string) error {
	const variables = "kvstore/internal/telemetry."
	flags := "-X " + variables + "Version=" + version + " -X " + variables + "Commit=" + commit
	args := append([]string{
		"build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", bin + string(filepath.Separator),
	}, packages...)
	if output, err := goCommand(ctx, root, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, output)
	}
	return nil
}

// goCommand returns a command that runs the go tool in dir. When ctx ends, it is
// interrupted, so that it removes its temporary files.
func goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // the arguments come from this package
	cmd.Dir = dir
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// locked is a writer for concurrent use.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// Root returns the working directory, which must be the root of the repository.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, "traefik", "traefik.yml")); err != nil {
		return "", fmt.Errorf("%s is not the root of the repository: %w", dir, err)
	}
	return dir, nil
}

// Version returns the version and the full commit of the repository at root, from
// KV_VERSION and KV_COMMIT or else from git. They are "dev" and "" if git fails, such as in a
// directory that is not a checkout. All clones of a commit have the same version.
func Version(ctx context.Context, root string, getenv func(string) string) (version, commit string) {
	version, commit = getenv("KV_VERSION"), getenv("KV_COMMIT")
	if version == "" && commit == "" {
		version = git(ctx, root, "describe", "--tags", "--always", "--dirty", "--abbrev=12")
		commit = git(ctx, root, "rev-parse", "HEAD")
	}
	if version == "" {
		version = "dev"
	}
	return version, commit
}

// git returns the output of a git command, or "" if it fails.
func git(ctx context.Context, root string, args ...string) string {
	// A copy without .git may be inside another checkout.
	if _, err := os.Stat(filepath.Join(root, ".git")); err != nil {
		return ""
	}
	cmd := exec.CommandContext(ctx, "git", args...) //nolint:gosec // the arguments come from this package
	cmd.Dir = root
	output, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(output))
}
