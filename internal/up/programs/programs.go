// Package programs gets the three programs that the service consists of.
package programs

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Paths are where the programs are, as absolute paths.
type Paths struct {
	Backend, Gateway, Traefik string
}

// Build builds the backend and the gateway of the repository at root into its
// directory bin, with the version that Version tells, and gets Traefik as the
// function Traefik does, unless the environment names a program under KV_BACKEND_BIN, KV_GATEWAY_BIN or
// KV_TRAEFIK_BIN. When ctx ends the build stops, and leaves no half-written
// program behind.
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

// build gives the same bytes wherever the repository and the Go module cache lie:
// it leaves their paths out (-trimpath), and what the go tool reads from git, which
// depends on the clone.
func build(ctx context.Context, root, bin, version, commit string, packages []string) error {
	const variables = "kvstore/internal/telemetry."
	flags := "-X " + variables + "Version=" + version + " -X " + variables + "Commit=" + commit
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", bin + string(filepath.Separator)}, packages...)
	if output, err := goCommand(ctx, root, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, output)
	}
	return nil
}

// goCommand is the go tool in dir. When ctx ends it is asked to stop, and so
// removes its temporary files.
func goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // the arguments are those in this package
	cmd.Dir = dir
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// locked is a writer for several goroutines.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// Root returns the root of the repository, given the working directory.
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
