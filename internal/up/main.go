// Command up builds and runs the whole service on this machine without containers:
// backend, gateway, and Traefik with the files in traefik/. Run it in the root of the
// repository.
//
// It exits with 0 after Ctrl-C, SIGTERM or SIGHUP, when all have ended; with 1 if one
// of them ended by itself or could not be built, started or stopped; and with 2 for wrong
// usage. A second Ctrl-C kills everything at once.
//
// With --cluster DIR it runs three backends and two gateways, and PostgreSQL with a synchronous
// standby, whose data is in DIR. Then a program that ends by itself is started again.
//
// With OTEL_EXPORTER_OTLP_ENDPOINT, backends, gateways and Traefik send traces there. With
// KV_METRICS_ADDR, backends and gateways serve their metrics on that address and the next ports.
//
// KV_BACKEND_BIN, KV_GATEWAY_BIN and KV_TRAEFIK_BIN name programs to use instead of building
// them, and KV_POSTGRES_BIN the directory of PostgreSQL's programs. KV_VERSION and KV_COMMIT override
// the version from git that the programs report. All other KV_ settings are passed on.
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
	"slices"
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
	clusterDir := flags.String("cluster", "",
		"run three backends, two gateways, and PostgreSQL with its data in this `directory`")
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
		err = up(ctx, *buildOnly, *clusterDir, getenv, out)
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

func up(ctx context.Context, buildOnly bool, clusterDir string, getenv func(string) string, out io.Writer) error {
	root, err := programs.Root()
	if err != nil {
		return err
	}
	if buildOnly {
		paths, err := programs.Build(ctx, root, getenv, out)
		if err == nil {
			fmt.Fprintf(out, "backend %s\ngateway %s\ntraefik %s\n", paths.Backend, paths.Gateway, paths.Traefik)
		}
		return err
	}
	addresses := addressesFrom(getenv, one)
	var engine *cluster
	if clusterDir != "" {
		addresses = addressesFrom(getenv, several)
		if engine, err = newCluster(root, clusterDir, getenv, out); err != nil {
			return err
		}
		addresses.servers = engine.addresses()
	}
	err = errors.Join(addresses.checkFree(ctx), certificateFrom(root, getenv).check(time.Now(), out))
	if err != nil {
		return err
	}
	paths, err := programs.Build(ctx, root, getenv, out)
	if err != nil {
		return err
	}
	static, remove, err := traefikConfig(root, getenv)
	if err != nil {
		return err
	}
	defer remove()
	group := supervise.Group{
		Programs: serviceOf(addresses, paths, root, static),
		Output:   out,
		Ready:    ready(addresses, scheme(getenv)),
	}
	if engine != nil {
		if err := engine.prepare(ctx); err != nil {
			return err
		}
		engine.join(&group, addresses)
	}
	return group.Run(ctx)
}

// serviceOf returns backends, gateways and Traefik.
func serviceOf(a addresses, paths programs.Paths, root, static string) (list []supervise.Program) {
	for _, p := range a.backends {
		list = append(list, supervise.Program{
			Name: p.name, Path: paths.Backend, Dir: root, StopTimeout: drainTimeout, Env: p.environment("KV_BACKEND_ADDR"),
		})
	}
	for _, p := range a.gateways {
		// The gateway stops after Traefik, so no load balancer has to notice.
		env := append([]string{"KV_DRAIN_DELAY=1ms"}, p.environment("KV_GATEWAY_ADDR")...)
		list = append(list, supervise.Program{
			Name: p.name, Path: paths.Gateway, Dir: root, StopTimeout: drainTimeout, Env: append(env, a.forGateways()...),
		})
	}
	return append(list, supervise.Program{
		Name: "traefik", Path: paths.Traefik, Dir: root, StopTimeout: traefikTimeout,
		Env: append(os.Environ(), a.forTraefik()...), Args: []string{"--configFile=" + static},
	})
}

// ready returns what waits until every program works and then says where the service is.
func ready(a addresses, scheme string) func(context.Context) (string, error) {
	started := time.Now()
	return func(ctx context.Context) (string, error) {
		for _, p := range slices.Concat(a.backends, a.gateways) {
			if err := waitHealthy(ctx, p.url()+"/health", healthTimeout); err != nil {
				return "", err
			}
		}
		if err := waitHealthy(ctx, scheme+"://127.0.0.1:8000/health", healthTimeout); err != nil {
			return "", err
		}
		url := scheme + "://localhost:8000"
		return fmt.Sprintf("ready in %.1fs: %s  (docs: %s/docs, stop: Ctrl-C)", time.Since(started).Seconds(), url, url), nil
	}
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
