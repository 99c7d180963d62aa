//go:build compose

package composetest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// project is a copy of the checkout, including uncommitted files, that docker-compose runs under its own name.
type project struct {
	name        string
	directory   string
	command     []string // docker compose if the plugin is installed, or docker-compose
	environment []string
	services    []string // that have a container
	taskProgram string   // of "go tool task", "" until it is needed
}

// newProject copies the checkout. The end of the test removes its containers.
func newProject(t *testing.T) *project {
	t.Helper()
	p := &project{
		name:      fmt.Sprintf("kvcompose%d", os.Getpid()),
		directory: t.TempDir(),
		command:   []string{"docker-compose"},
		services:  []string{"traefik", "gateway", "backend", "data"},
	}
	if exec.CommandContext(t.Context(), "docker", "compose", "version").Run() == nil {
		p.command = []string{"docker", "compose"}
	}
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); !strings.HasPrefix(name, "KV_") || name == "KV_BUILD_NETWORK" {
			p.environment = append(p.environment, variable)
		}
	}
	p.environment = append(p.environment, "COMPOSE_PROJECT_NAME="+p.name, "KV_VERSION="+testedVersion, "KV_COMMIT="+testedCommit)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	copyCheckout(t, root, p.directory)
	t.Cleanup(func() { p.down(t) })
	return p
}

// down removes the containers. If the test has failed, it first prints their logs.
func (p *project) down(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
	defer cancel()
	if t.Failed() {
		_ = p.execute(ctx, t, "ps", "-a")
		_ = p.execute(ctx, t, "logs", "--no-color", "--timestamps")
	}
	if err := p.execute(ctx, t, "down", "--volumes", "--remove-orphans"); err != nil {
		t.Errorf("containers may be left over: %v", err)
	}
}

func copyCheckout(t *testing.T, root, directory string) {
	t.Helper()
	list := output(t, "git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	for name := range strings.SplitSeq(strings.TrimRight(list, "\x00"), "\x00") {
		info, err := os.Stat(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue // deleted without a commit
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(directory, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, content, info.Mode()&fs.ModePerm); err != nil {
			t.Fatal(err)
		}
	}
}

// compose runs a subcommand of docker-compose and stops the test if it fails.
func (p *project) compose(t *testing.T, arguments ...string) {
	t.Helper()
	if err := p.execute(t.Context(), t, arguments...); err != nil {
		t.Fatal(err)
	}
}

func (p *project) execute(ctx context.Context, t *testing.T, arguments ...string) error {
	t.Helper()
	command := exec.CommandContext(ctx, p.command[0], append(p.command[1:len(p.command):len(p.command)], arguments...)...)
	command.Dir, command.Env = p.directory, p.environment
	start := time.Now()
	out, err := command.CombinedOutput()
	t.Logf("%s (%v)\n%s", strings.Join(command.Args, " "), time.Since(start).Round(100*time.Millisecond), out)
	if err != nil {
		return fmt.Errorf("%s: %w", strings.Join(command.Args, " "), err)
	}
	return nil
}

// container holds the parts of docker inspect that the tests need.
type container struct {
	State struct {
		Pid      int
		Running  bool
		ExitCode int
	}
	Config struct {
		Labels map[string]string
	}
	HostConfig struct {
		ReadonlyRootfs bool
		LogConfig      struct{ Config map[string]string }
	}
	NetworkSettings struct {
		Ports    map[string][]struct{ HostPort string }
		Networks map[string]struct{ IPAddress string }
	}
}

// containers returns the containers of the project by service, including stopped ones.
func (p *project) containers(t *testing.T) map[string]container {
	t.Helper()
	ids := output(t, "docker", "ps", "-aq", "--filter", "label=com.docker.compose.project="+p.name)
	var list []container
	inspected := output(t, "docker", append([]string{"inspect"}, strings.Fields(ids)...)...)
	if err := json.Unmarshal([]byte(inspected), &list); err != nil {
		t.Fatal(err)
	}
	services := map[string]container{}
	for _, c := range list {
		services[c.Config.Labels["com.docker.compose.service"]] = c
	}
	for _, name := range p.services {
		if _, ok := services[name]; !ok {
			t.Fatalf("service %s has no container", name)
		}
	}
	return services
}

// The version and commit of the images.
const testedVersion, testedCommit = "v0.1.0-composetest", "0123456789abcdef0123456789abcdef01234567"

// testVersion checks the version in the labels of the images and in their programs.
func testVersion(t *testing.T) {
	var health struct{ Gateway, Backend struct{ Version string } }
	response, err := http.Get(service + "/health")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&health); err != nil {
		t.Fatal(err)
	}
	for image, told := range map[string]string{"kv-store": health.Backend.Version, "kv-store-gateway": health.Gateway.Version} {
		labels := output(t, "docker", "image", "inspect", "--format", `{{index .Config.Labels "org.opencontainers.image.version"}} {{index .Config.Labels "org.opencontainers.image.revision"}}`, image)
		if told != testedVersion || strings.TrimSpace(labels) != testedVersion+" "+testedCommit {
			t.Errorf("%s: /health has %q, the labels %q, want %s %s", image, told, labels, testedVersion, testedCommit)
		}
	}
}

func (c container) address(t *testing.T, network string) string {
	t.Helper()
	address := c.NetworkSettings.Networks[network].IPAddress
	if address == "" {
		t.Fatalf("no address in the network %s", network)
	}
	return address
}

// probeVariable holds an address. If it is set, this program probes that address and exits.
const probeVariable = "COMPOSETEST_PROBE"

// probeFrom probes from the network of the container with process pid, with the engine's name server.
func probeFrom(t *testing.T, pid int, address string) error {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "nsenter", "-t", strconv.Itoa(pid), "-n", program)
	command.Env = append(os.Environ(), probeVariable+"="+address)
	out, err := command.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit) && exit.ExitCode() == probeFailed:
		return errors.New(string(bytes.TrimSpace(out)))
	default:
		t.Fatalf("%s: %v: %s", strings.Join(command.Args, " "), err, out)
		return err
	}
}

// probeFailed is an exit code that is not used by nsenter or the runtime.
const probeFailed = 42

func probeInside(address string) int {
	net.DefaultResolver = &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.11:53")
		},
	}
	if err := probe(address); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return probeFailed
	}
	return 0
}

// probe returns nil if the tested service answers at address. A connection alone proves nothing, because some routers answer
// for every address.
func probe(address string) error {
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{}}
	response, err := client.Get("http://" + address + "/get/" + probeKey)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(probeValue)) {
		return fmt.Errorf("something else answers at %s: %s", address, response.Status)
	}
	return nil
}

// processStatus reads /proc/PID/status and collapses white space.
func processStatus(t *testing.T, pid int) map[string]string {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	status := map[string]string{}
	for line := range strings.Lines(string(content)) {
		name, value, _ := strings.Cut(line, ":")
		status[name] = strings.Join(strings.Fields(value), " ")
	}
	return status
}

func output(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(t.Context(), name, arguments...)
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(command.Args, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(stdout.String())
}

func run(t *testing.T, name string, arguments ...string) {
	t.Helper()
	t.Logf("%s %s: %s", name, strings.Join(arguments, " "), output(t, name, arguments...))
}

// runCleanup is run for cleanup functions, where a failure must not stop the others.
func runCleanup(t *testing.T, name string, arguments ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, name, arguments...)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v", strings.Join(command.Args, " "), err)
	}
	t.Logf("%s: %s", strings.Join(command.Args, " "), bytes.TrimSpace(out))
}

func request(t *testing.T, method, url, body string) (status int, answer string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return response.StatusCode, string(content), err
}

// decode makes a request and decodes the answer, which must be 200, into value.
func decode(t *testing.T, method, url, body string, value any) {
	t.Helper()
	status, answer, err := request(t, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if status != http.StatusOK {
		t.Fatalf("%s %s = %d %s", method, url, status, answer)
	}
	if err := json.Unmarshal([]byte(answer), value); err != nil {
		t.Fatalf("%s %s = %s: %v", method, url, answer, err)
	}
}

func put(t *testing.T, base, key, value string, version int) {
	t.Helper()
	var got struct{ Version int }
	decode(t, http.MethodPut, base+"/put/"+key, `{"value":`+value+`}`, &got)
	if got.Version != version {
		t.Fatalf("version of %s after the PUT = %d, want %d", key, got.Version, version)
	}
}

func expectValue(t *testing.T, base, key, value string, version int) {
	t.Helper()
	var got struct {
		Value   json.RawMessage
		Version int
	}
	decode(t, http.MethodGet, base+"/get/"+key, "", &got)
	if diff := cmp.Diff(fmt.Sprint(version, " ", value), fmt.Sprint(got.Version, " ", string(got.Value))); diff != "" {
		t.Errorf("%s (-want +got):\n%s", key, diff)
	}
}

func expectMaxSize(t *testing.T, want int) {
	t.Helper()
	var got struct {
		MaxSize int `json:"max_size"`
	}
	decode(t, http.MethodGet, service+"/cache/stats", "", &got)
	if got.MaxSize != want {
		t.Errorf("max_size = %d, want %d", got.MaxSize, want)
	}
}
