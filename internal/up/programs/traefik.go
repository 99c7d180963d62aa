package programs

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

const (
	traefikModule  = "github.com/traefik/traefik/v3"
	progressPeriod = 5 * time.Second
)

// TraefikVersion returns the version of Traefik that the go.mod file pins, such as
// "v3.7.13".
func TraefikVersion(goMod string) (string, error) {
	content, err := os.ReadFile(goMod)
	if err != nil {
		return "", fmt.Errorf("read the pinned version of Traefik: %w", err)
	}
	file, err := modfile.ParseLax(goMod, content, nil)
	if err != nil {
		return "", fmt.Errorf("read the pinned version of Traefik: %w", err)
	}
	for _, require := range file.Require {
		if require.Mod.Path == traefikModule {
			return require.Mod.Version, nil
		}
	}
	return "", fmt.Errorf("%s does not require %s", goMod, traefikModule)
}

// Traefik returns the path of a Traefik program that suits the files in the directory
// traefik of root: the one in PATH, if it has the pinned version or a later 3.x, and
// otherwise the pinned one in the user's cache. If necessary, it builds that from source,
// which takes minutes, and reports progress every few seconds.
func Traefik(ctx context.Context, root string, progress io.Writer) (string, error) {
	pinned, err := TraefikVersion(filepath.Join(root, "traefik", "go.mod"))
	if err != nil {
		return "", err
	}
	if path, err := exec.LookPath("traefik"); err == nil {
		found := versionOf(ctx, path)
		if Suits(found, pinned) {
			return path, nil
		}
		fmt.Fprintf(progress, "%s is %s; %s or a later 3.x is needed, so it is not used\n", path, found, pinned)
	}
	cached, err := cachePath(pinned)
	if err != nil {
		return "", err
	}
	if isExecutable(cached) {
		return cached, nil
	}
	return cached, buildTraefik(ctx, filepath.Join(root, "traefik"), pinned, cached, progress)
}

// Suits reports whether the found version of Traefik can replace the pinned one: it must
// have the same major version and not be older.
func Suits(found, pinned string) bool {
	return semver.IsValid(found) && semver.Major(found) == semver.Major(pinned) && semver.Compare(found, pinned) >= 0
}

var versionLine = regexp.MustCompile(`(?m)^Version:\s+v?(\S+)`)

// versionOf returns the version of a Traefik program, or a text that is not a valid version
// if it is unknown.
func versionOf(ctx context.Context, path string) string {
	answer, err := exec.CommandContext(ctx, path, "version").Output()
	if err != nil {
		return "of unknown version"
	}
	match := versionLine.FindSubmatch(answer)
	if match == nil {
		return "of unknown version"
	}
	return "v" + string(match[1])
}

func cachePath(version string) (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for Traefik: %w", err)
	}
	return filepath.Join(dir, "kvstore", fmt.Sprintf("traefik-%s-%s-%s", version, runtime.GOOS, runtime.GOARCH)), nil
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// buildTraefik builds the version that the module in dir pins. The target is complete or
// does not exist.
func buildTraefik(ctx context.Context, dir, version, target string, progress io.Writer) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return fmt.Errorf("build Traefik: %w", err)
	}
	scratch, err := os.MkdirTemp(filepath.Dir(target), "build-")
	if err != nil {
		return fmt.Errorf("build Traefik: %w", err)
	}
	defer func() { _ = os.RemoveAll(scratch) }()

	stop := reportProgress(progress, version)
	built := filepath.Join(scratch, "traefik")
	flags := "-s -w -X " + traefikModule + "/pkg/version.Version=" + version[1:]
	err = compileTraefik(ctx, dir, filepath.Join(scratch, "module"), built, flags)
	stop()
	if err != nil {
		return fmt.Errorf("build Traefik %s: %w", version, err)
	}
	if err := os.Rename(built, target); err != nil {
		return fmt.Errorf("build Traefik: %w", err)
	}
	return nil
}

// compileTraefik builds target from the module in dir, using the directory scratch.
func compileTraefik(ctx context.Context, dir, scratch, target, flags string) error {
	if err := TraefikModule(ctx, dir, scratch); err != nil {
		return err
	}
	cmd := goCommand(ctx, scratch, "build", "-trimpath", "-o", target, "-ldflags", flags, traefikModule+"/cmd/traefik")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // like Traefik's releases, to run on any Linux
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, output)
	}
	return nil
}

// reportProgress reports how long the build has been running, until stop is called.
func reportProgress(w io.Writer, version string) (stop func()) {
	started := time.Now()
	fmt.Fprintf(w, "building Traefik %s, which takes several minutes the first time; later starts use the result\n",
		version)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(progressPeriod)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				fmt.Fprintf(w, "building Traefik %s: %s so far\n", version, time.Since(started).Round(time.Second))
			case <-done:
				fmt.Fprintf(w, "building Traefik %s: ended after %s\n", version, time.Since(started).Round(time.Second))
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

// TracingConfig returns the static configuration of Traefik with tracing. It sends the given
// ratio of traces (0 to 1) to endpoint as OTLP over HTTP. Traefik reads its static
// configuration from only one source, and OpenTelemetry's variables do not replace these
// settings.
func TracingConfig(static []byte, endpoint string, ratio float64) []byte {
	return fmt.Appendf(append([]byte(nil), static...), `
# Each request is a trace, which the gateway and the backend continue. Traefik's spans contain the path, and so the key, in
# url.path. Those of the other programs never do.
tracing:
  serviceName: traefik
  sampleRate: %s
  otlp:
    http:
      endpoint: %q
`, strconv.FormatFloat(ratio, 'f', -1, 64), endpoint)
}
