// Command up builds and runs the whole service on this machine without containers:
// backend, gateway, and Traefik with the files in traefik/. Run it in the root of the
// repository.
//
// It exits with 0 after Ctrl-C, SIGTERM or SIGHUP, when all three have ended; with 1 if one
// of them ended by itself or could not be built, started or stopped; and with 2 for wrong
// usage. A second Ctrl-C kills everything at once.
//
// With OTEL_EXPORTER_OTLP_ENDPOINT, all three send traces there. With KV_METRICS_ADDR, the
// backend serves its metrics on that address and the gateway on the next port.
//
// KV_BACKEND_BIN, KV_GATEWAY_BIN and KV_TRAEFIK_BIN name programs to use instead of building
// them. KV_VERSION and KV_COMMIT override the version from git that the programs report.
// All other KV_ settings are passed on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"kvstore/internal/settings"
	"kvstore/internal/up/programs"
	"kvstore/internal/up/supervise"
)

// How long a program may take to stop before it is killed. Backend and gateway drain for
// up to 25 s, Traefik for up to 5 s.
const (
	drainTimeout   = 30 * time.Second
	traefikTimeout = 10 * time.Second
)

func main() {
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, restore) // a second Ctrl-C has its default effect
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout)
	restore()
	os.Exit(code)
}

// run returns the exit code.
func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) int {
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	flags.SetOutput(out)
	buildOnly := flags.Bool("build-only", false, "build all programs, print their paths, and exit")
	traefikModule := flags.String("traefik-module", "",
		"write the module for building Traefik to this `directory`, and exit")
	checkTLS := flags.Bool("check-tls", false, "check the certificate for Traefik's container, and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		fmt.Fprintln(out, "up: no arguments are expected:", flags.Args())
		return 2
	}
	var err error
	switch {
	case *traefikModule != "":
		err = writeTraefikModule(ctx, *traefikModule)
	case *checkTLS:
		err = checkContainer(getenv, out)
	default:
		err = up(ctx, *buildOnly, getenv, out)
	}
	if err != nil {
		fmt.Fprintln(out, "up:", err)
		return 1
	}
	return 0
}

func writeTraefikModule(ctx context.Context, dir string) error {
	root, err := programs.Root()
	if err != nil {
		return err
	}
	return programs.TraefikModule(ctx, filepath.Join(root, "traefik"), dir)
}

func checkContainer(getenv func(string) string, out io.Writer) error {
	root, err := programs.Root()
	if err != nil {
		return err
	}
	return certificateFrom(root, getenv).inContainer(getenv).check(time.Now(), out)
}

func up(ctx context.Context, buildOnly bool, getenv func(string) string, out io.Writer) error {
	root, err := programs.Root()
	if err != nil {
		return err
	}
	addresses := addressesFrom(getenv)
	if !buildOnly {
		if err := errors.Join(addresses.checkFree(ctx), certificateFrom(root, getenv).check(time.Now(), out)); err != nil {
			return err
		}
	}
	paths, err := programs.Build(ctx, root, getenv, out)
	if err != nil {
		return err
	}
	if buildOnly {
		fmt.Fprintf(out, "backend %s\ngateway %s\ntraefik %s\n", paths.Backend, paths.Gateway, paths.Traefik)
		return nil
	}
	static, remove, err := traefikConfig(root, getenv)
	if err != nil {
		return err
	}
	defer remove()
	started := time.Now()
	group := supervise.Group{
		Programs: []supervise.Program{
			{Name: "backend", Path: paths.Backend, Dir: root, StopTimeout: drainTimeout},
			{Name: "gateway", Path: paths.Gateway, Dir: root, StopTimeout: drainTimeout,
				Env: stopAtOnce(addresses.forGateway(os.Environ()))},
			{Name: "traefik", Path: paths.Traefik, Dir: root, StopTimeout: traefikTimeout,
				Env: addresses.forTraefik(os.Environ()), Args: []string{"--configFile=" + static}},
		},
		Output: out,
		Ready: func(ctx context.Context) (string, error) {
			if err := waitHealthy(ctx, scheme(getenv)+"://127.0.0.1:8000/health", healthTimeout); err != nil {
				return "", err
			}
			url := scheme(getenv) + "://localhost:8000"
			return fmt.Sprintf("ready in %.1fs: %s  (docs: %s/docs, stop: Ctrl-C)", time.Since(started).Seconds(), url, url), nil
		},
	}
	return group.Run(ctx)
}

const staticConfig = "traefik/traefik.yml"

// traefikConfig returns the static configuration for Traefik: the one in the repository,
// or a temporary one with traces if the environment asks for them. The caller must call
// remove.
func traefikConfig(root string, getenv func(string) string) (path string, remove func(), err error) {
	endpoint := settings.TracesEndpoint(getenv)
	if endpoint == "" {
		return staticConfig, func() {}, nil
	}
	static, err := os.ReadFile(filepath.Join(root, staticConfig))
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "kv-traefik-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	path = filepath.Join(dir, "traefik.yml")
	if err := os.WriteFile(path, programs.TracingConfig(static, endpoint, settings.TracesRatio(getenv)), 0o600); err != nil {
		remove()
		return "", nil, err
	}
	return path, remove, nil
}
