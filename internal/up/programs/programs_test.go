package programs_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"kvstore/internal/up/programs"
)

func TestSuits(t *testing.T) {
	for _, c := range []struct {
		found string
		want  bool
	}{
		{"v3.7.13", true},
		{"v3.7.14", true},
		{"v3.10.0", true},
		{"v3.7.2", false},
		{"v2.11.0", false},
		{"v4.0.0", false},
		{"v3.7.13-rc1", false},
		{"vdev", false},
		{"of unknown version", false},
	} {
		if got := programs.Suits(c.found, "v3.7.13"); got != c.want {
			t.Errorf("Suits(%q) = %t, want %t", c.found, got, c.want)
		}
	}
}

func TestTraefikVersion(t *testing.T) {
	t.Run("of this repository", func(t *testing.T) {
		version, err := programs.TraefikVersion("../../../traefik/go.mod")
		if err != nil || !strings.HasPrefix(version, "v3.") {
			t.Errorf("TraefikVersion = %q, %v", version, err)
		}
	})
	t.Run("not required", func(t *testing.T) {
		goMod := filepath.Join(t.TempDir(), "go.mod")
		write(t, goMod, "module x\n", 0o644)
		if version, err := programs.TraefikVersion(goMod); err == nil {
			t.Errorf("TraefikVersion = %q, want an error", version)
		}
	})
}

// repository returns a directory that pins v3.7.13, and sets an empty PATH and a cache that
// has this version.
func repository(t *testing.T) (root, cached string) {
	t.Helper()
	root = t.TempDir()
	write(t, filepath.Join(root, "traefik", "go.mod"), "module x\nrequire github.com/traefik/traefik/v3 v3.7.13\n", 0o644)
	t.Setenv("PATH", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", "")
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cached = filepath.Join(cache, "kvstore", fmt.Sprintf("traefik-v3.7.13-%s-%s", runtime.GOOS, runtime.GOARCH))
	write(t, cached, "", 0o755)
	return root, cached
}

func TestTraefik(t *testing.T) {
	for _, c := range []struct {
		name    string
		version string // what the one on PATH says
		onPath  bool   // whether that one is chosen
	}{
		{"none on PATH", "", false},
		{"the pinned one on PATH", "Version:      3.7.13\nCodename:     ramequin", true},
		{"an old one on PATH", "Version:      2.11.0\nCodename:     mimolette", false},
		{"something else on PATH", "hello", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			root, want := repository(t)
			if c.version != "" {
				path := filepath.Join(os.Getenv("PATH"), "traefik")
				write(t, path, "#!/bin/sh\necho '"+c.version+"'\n", 0o755)
				if c.onPath {
					want = path
				}
			}
			var progress strings.Builder
			got, err := programs.Traefik(t.Context(), root, &progress)
			if err != nil || got != want {
				t.Errorf("Traefik = %q, %v, want %q", got, err, want)
			}
			if told := strings.Contains(progress.String(), "is not used"); told != (c.version != "" && !c.onPath) {
				t.Errorf("progress: %q", progress.String())
			}
		})
	}
}

// Traefik is built from lego without its DNS providers.
func TestTraefikModule(t *testing.T) {
	lego, source, target := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "new")
	write(t, filepath.Join(lego, "go.mod"), "module github.com/go-acme/lego/v5\n", 0o444)
	write(t, filepath.Join(lego, "acme", "acme.go"), "package acme\n", 0o444)
	write(t, filepath.Join(lego, "providers", "dns", "cloud", "cloud.go"), "package cloud\n", 0o444)
	write(t, filepath.Join(source, "go.mod"), "module x\nrequire github.com/go-acme/lego/v5 v5.0.0\nreplace y => ./y\n", 0o644)
	write(t, filepath.Join(source, "go.sum"), "sums\n", 0o644)
	t.Setenv("PATH", t.TempDir())
	write(t, filepath.Join(os.Getenv("PATH"), "go"), "#!/bin/sh\necho '{\"Dir\":\""+lego+"\"}'\n", 0o755)
	if err := programs.TraefikModule(t.Context(), source, target); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(target, "go.mod"))
	if want := "replace y => " + filepath.Join(source, "y"); err != nil || !strings.Contains(string(content), want) {
		t.Errorf("go.mod: %s, %v, want %q in it", content, err, want)
	}
	for name, want := range map[string]string{
		"go.mod":                    "replace github.com/go-acme/lego/v5 => ./lego",
		"go.sum":                    "sums\n",
		"lego/go.mod":               "module github.com/go-acme/lego/v5\n",
		"lego/acme/acme.go":         "package acme\n",
		"lego/providers/dns/dns.go": "func NewDNSChallengeProviderByName(",
	} {
		if content, err := os.ReadFile(filepath.Join(target, name)); err != nil || !strings.Contains(string(content), want) {
			t.Errorf("%s: %q, %v, want %q in it", name, content, err, want)
		}
	}
	if left, err := os.ReadDir(filepath.Join(target, "lego", "providers", "dns")); err != nil || len(left) != 1 {
		t.Errorf("providers/dns: %v, %v", left, err)
	}
}

// A go tool that fails leaves nothing in the cache.
func TestTraefikBuildFails(t *testing.T) {
	root, cached := repository(t)
	if err := os.Remove(cached); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(os.Getenv("PATH"), "go"), "#!/bin/sh\necho no such module\nexit 1\n", 0o755)
	var progress strings.Builder
	_, err := programs.Traefik(t.Context(), root, &progress)
	if err == nil || !strings.Contains(err.Error(), "no such module") {
		t.Errorf("Traefik: %v, want what the go tool said", err)
	}
	left, err := os.ReadDir(filepath.Dir(cached))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestBuildTakesProgramsFromTheEnvironment(t *testing.T) {
	environment := map[string]string{"KV_BACKEND_BIN": "/b", "KV_GATEWAY_BIN": "/g", "KV_TRAEFIK_BIN": "/t"}
	getenv := func(name string) string { return environment[name] }
	paths, err := programs.Build(t.Context(), t.TempDir(), getenv, new(strings.Builder))
	if want := (programs.Paths{Backend: "/b", Gateway: "/g", Traefik: "/t"}); err != nil || paths != want {
		t.Errorf("Build = %v, %v, want %v", paths, err, want)
	}
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// TestTracingFile checks that the configuration of containers with traces is TracingConfig
// of the one without. UPDATE=1 writes it.
func TestTracingFile(t *testing.T) {
	const file = "../../../traefik/traefik-tracing.yml"
	static, err := os.ReadFile("../../../traefik/traefik.yml")
	if err != nil {
		t.Fatal(err)
	}
	want := programs.TracingConfig(static, "http://jaeger:4318/v1/traces", 1)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is out of date: UPDATE=1 go test ./internal/up/programs", file)
	}
}

func TestVersion(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	// Ignore the user's settings and a repository around the test.
	t.Setenv("GIT_CONFIG_GLOBAL", "/dev/null")
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	for _, name := range []string{"GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"} {
		t.Setenv(name, "test")
	}
	root := t.TempDir()
	file := filepath.Join(root, "file")
	git := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = root
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, output)
		}
	}
	const commit = "[0-9a-f]{40}"
	expect := func(what string, environment map[string]string, wantVersion, wantCommit string) {
		t.Helper()
		version, commit := programs.Version(t.Context(), root, func(name string) string { return environment[name] })
		if !regexp.MustCompile("^"+wantVersion+"$").MatchString(version) || !regexp.MustCompile("^"+wantCommit+"$").MatchString(commit) {
			t.Errorf("%s: %q, %q, want %q, %q", what, version, commit, wantVersion, wantCommit)
		}
	}
	expect("no checkout", nil, "dev", "")
	git("init", "--quiet")
	expect("no commit", nil, "dev", "")
	write(t, file, "1", 0o644)
	git("add", ".")
	git("commit", "--quiet", "-m", "one")
	expect("no tag", nil, "[0-9a-f]{12}", commit)
	git("tag", "v1.2.0")
	expect("a tag", nil, "v1[.]2[.]0", commit)
	write(t, file, "2", 0o644)
	expect("a tag and a change", nil, "v1[.]2[.]0-dirty", commit)
	git("commit", "--quiet", "-am", "two")
	expect("after a tag", nil, "v1[.]2[.]0-1-g[0-9a-f]{12}", commit)
	expect("the environment", map[string]string{"KV_VERSION": "v7", "KV_COMMIT": "abc"}, "v7", "abc")
	expect("the environment alone", map[string]string{"KV_VERSION": "v7"}, "v7", "")
}
