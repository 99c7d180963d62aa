package internal_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// settings returns the settings of each program, with their defaults.
func settings(t *testing.T) map[string]map[string]string {
	t.Helper()
	return map[string]map[string]string{
		"backend": settingsOf(t, build(t, "backend")),
		"gateway": settingsOf(t, build(t, "gateway")),
		"traefik": settingsOfTraefik(t),
	}
}

// build compiles a program.
func build(t *testing.T, name string) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), name)
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// settingsOf returns the settings in a program's --help. The default is "" if the help does
// not show it, because it is empty or 0.
func settingsOf(t *testing.T, program string) map[string]string {
	t.Helper()
	help := exec.CommandContext(t.Context(), program, "--help")
	help.Env = []string{} // ignore the caller's settings
	out, err := help.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	listed := map[string]string{}
	text := strings.Join(strings.Fields(string(out)), " ") // the help wraps its lines
	for _, found := range regexp.MustCompile(`\[(KV_\w+)\](?: \(default ([^)]*)\))?`).FindAllStringSubmatch(text, -1) {
		listed[found[1]] = found[2]
	}
	if len(listed) < 10 {
		t.Fatalf("%s --help lists %v:\n%s", program, listed, out)
	}
	return listed
}

// settingsOfTraefik returns the settings that dynamic.yml reads, with the defaults in its
// first comment.
func settingsOfTraefik(t *testing.T) map[string]string {
	t.Helper()
	text := fileText(t, "traefik/dynamic.yml")
	told := map[string]string{}
	for _, row := range regexp.MustCompile(`(?m)^# +(KV_\w+) +(\S+(?: \S+)*)  `).FindAllStringSubmatch(text, -1) {
		told[row[1]] = normal(row[2])
	}
	read := map[string]bool{}
	for _, found := range regexp.MustCompile(`env "(KV_\w+)"(?: \| default "([^"]*)")?`).FindAllStringSubmatch(text, -1) {
		read[found[1]] = true
		if value := found[2]; value != "" && value != "one" && value != told[found[1]] {
			t.Errorf("dynamic.yml: the default of %s is %q, but its comment says %q", found[1], value, told[found[1]])
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(read)), slices.Sorted(maps.Keys(told))); diff != "" {
		t.Errorf("dynamic.yml: settings that are read (-) and in the comment (+):\n%s", diff)
	}
	return told
}

// normal returns "" for all spellings of no value.
func normal(value string) string {
	if value == "none" || value == "0" {
		return ""
	}
	return value
}

func fileText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// settingsOfReadme returns the settings in a program's table: the names in the first column,
// and their defaults in the second. Settings of both backend and gateway are described below
// the tables.
func settingsOfReadme(t *testing.T, program string, listed map[string]string) map[string]string {
	t.Helper()
	title := "\n| " + strings.Replace(program, "traefik", "Traefik", 1) + " | default | |\n| --- | --- | --- |\n"
	_, rest, found := strings.Cut(fileText(t, "README.md"), title)
	if !found {
		t.Fatalf("README.md has no table of %s", program)
	}
	table, _, _ := strings.Cut(rest, "\n\n")
	told := map[string]string{}
	for row := range strings.SplitSeq(table, "\n") {
		cells := strings.Split(row, " | ")
		names := regexp.MustCompile("KV_[A-Z_]+").FindAllString(cells[0], -1)
		defaults := strings.Split(strings.ReplaceAll(cells[1], "`", ""), ", ")
		if len(defaults) == 1 && defaults[0] == "none" {
			defaults = slices.Repeat(defaults, len(names))
		}
		if len(names) == 0 || len(defaults) != len(names) {
			t.Fatalf("README.md: %s", row)
		}
		for i, name := range names {
			told[name] = normal(defaults[i])
		}
	}
	for _, name := range []string{"KV_METRICS_ADDR", "KV_LOG_LEVEL", "KV_LOG_FORMAT"} {
		if value, ok := listed[name]; ok {
			told[name] = value
		}
	}
	return told
}

// wiring holds the settings that the compose file itself sets, with which the containers find
// each other.
var wiring = map[string]string{
	"KV_GATEWAY_URL": "http://gateway:8001", "KV_GATEWAY_ADDR": ":8001", "KV_BACKENDS": "http://backend:8080",
	"KV_BACKEND_ADDR": ":8080",
}

// TestSettings checks that --help, dynamic.yml, README.md and docker-compose.yml have the
// same settings with the same defaults, and that no text mentions a setting that does not
// exist.
func TestSettings(t *testing.T) {
	all := settings(t)
	for program, listed := range all {
		t.Run(program, func(t *testing.T) {
			if diff := cmp.Diff(listed, passedOn(t, program, listed)); diff != "" {
				t.Errorf("the program has (-) and docker-compose.yml passes on (+):\n%s", diff)
			}
			if diff := cmp.Diff(listed, settingsOfReadme(t, program, listed)); diff != "" {
				t.Errorf("the program has (-) and README.md has (+):\n%s", diff)
			}
		})
	}
	t.Run("names", func(t *testing.T) { testNames(t, all) })
}

// passedOn returns the settings that the compose file passes to a container, with their
// defaults, which it must not change.
func passedOn(t *testing.T, program string, listed map[string]string) map[string]string {
	t.Helper()
	var compose struct {
		Services map[string]struct{ Environment map[string]*string }
	}
	if err := yaml.Unmarshal([]byte(fileText(t, "docker-compose.yml")), &compose); err != nil {
		t.Fatal(err)
	}
	passed := map[string]string{}
	for name, set := range compose.Services[program].Environment {
		if !strings.HasPrefix(name, "KV_") {
			continue
		}
		passed[name] = listed[name]
		if set == nil || *set == wiring[name] || *set == listed[name] || name == "KV_METRICS_ADDR" && strings.HasPrefix(*set, ":") {
			continue
		}
		t.Errorf("docker-compose.yml has %s=%s, the default is %q", name, *set, listed[name])
	}
	return passed
}

// others are variables of docker-compose.yml, of the launcher and of tests.
var others = []string{
	"KV_UID", "KV_GID", "KV_VERSION", "KV_COMMIT", "KV_BUILD_NETWORK", "KV_TRAEFIK_CONFIG",
	"KV_BACKEND_BIN", "KV_GATEWAY_BIN", "KV_TRAEFIK_BIN", "KV_POSTGRES_BIN", "KV_CLUSTER_PASSWORD",
	"KV_TEST_ENGINE", "KV_TEST_POSTGRES",
}

func testNames(t *testing.T, all map[string]map[string]string) {
	known := map[string]string{}
	for _, listed := range all {
		maps.Copy(known, listed)
	}
	for _, name := range others {
		known[name] = ""
	}
	names := regexp.MustCompile(`\bKV_[A-Z_]*[A-Z]\b`)
	list := exec.CommandContext(t.Context(), "git", "ls-files", "*.go", "*.md", "*.yml", "*Dockerfile")
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for file := range strings.FieldsSeq(string(out)) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, name := range names.FindAllString(fileText(t, file), -1) {
			if _, ok := known[name]; !ok {
				t.Errorf("%s mentions %s, which is not a setting", file, name)
			}
		}
	}
}
