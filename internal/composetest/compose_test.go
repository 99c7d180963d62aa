//go:build compose

// Package composetest_test starts the service like its users, with docker-compose and with docker run, and checks what the
// containers promise: one published port, a backend that only the gateway can reach, no privileges, and data that outlives
// every container. It needs root on a Linux machine with an engine, the base images of the repository (.ci/docker-images
// builds them), and port 8000. It replaces the images kv-store and kv-store-gateway.
//
//	go test -tags compose -count=1 -timeout 30m -v ./internal/composetest
package composetest_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	service    = "http://127.0.0.1:8000"
	probeKey   = "persistent/key"
	probeValue = `"written before down"`
)

func TestMain(m *testing.M) {
	if address := os.Getenv(probeVariable); address != "" {
		os.Exit(probeInside(address))
	}
	os.Exit(m.Run())
}

func TestContainers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("entering the network of a container needs root")
	}
	run(t, "docker", "info", "--format", "engine {{.ServerVersion}}, {{.Driver}}")
	requireFree(t, ":8000")
	p := newProject(t)
	start := time.Now()
	p.compose(t, "up", "--build", "-d")
	waitHealthy(t, service)
	t.Logf("built, started and healthy after %v", time.Since(start).Round(time.Second))

	put(t, service, probeKey, probeValue, 1)
	expectValue(t, service, probeKey, probeValue, 1)
	t.Run("OnlyTraefikPublishes", func(t *testing.T) { testPublished(t, p) })
	t.Run("BackendUnreachable", func(t *testing.T) { testUnreachable(t, p) })
	t.Run("NoPrivileges", func(t *testing.T) { testPrivileges(t, p) })
	t.Run("Version", testVersion)
	t.Run("DefaultSettings", func(t *testing.T) { expectMaxSize(t, 100) })

	p.compose(t, "stop")
	t.Run("CleanExits", func(t *testing.T) { testExits(t, p) })
	p.down(t)
	p.environment = append(p.environment, "KV_CACHE_MAX_KEYS=7")
	p.compose(t, "up", "-d")
	waitHealthy(t, service)
	t.Run("DataAfterDownAndUp", func(t *testing.T) {
		expectValue(t, service, probeKey, probeValue, 1)
		put(t, service, probeKey, `"written after up"`, 2)
	})
	t.Run("SettingsOfTheHost", func(t *testing.T) { expectMaxSize(t, 7) })
	t.Run("TasksOfTheOperator", func(t *testing.T) { testOperate(t, p) })
	p.down(t)

	t.Run("RunWithDirectory", testRunDirectory)
	t.Run("RunWithPreparedDirectory", testRunPrepared)
	t.Run("RunWithVolume", testRunVolume)
}

func testPublished(t *testing.T, p *project) {
	published := map[string][]string{}
	for name, c := range p.containers(t) {
		for port, bindings := range c.NetworkSettings.Ports {
			for _, b := range bindings {
				published[name] = append(published[name], b.HostPort+"->"+port)
			}
		}
		slices.Sort(published[name])
		published[name] = slices.Compact(published[name]) // IPv4 and IPv6
		if published[name] == nil {
			delete(published, name)
		}
	}
	if diff := cmp.Diff(map[string][]string{"traefik": {"8000->8000/tcp"}}, published); diff != "" {
		t.Errorf("published ports (-want +got):\n%s", diff)
	}
}

// testUnreachable pairs each probe that must fail with one that must succeed, to detect wrong addresses.
func testUnreachable(t *testing.T, p *project) {
	all := p.containers(t)
	backend := net.JoinHostPort(all["backend"].address(t, p.name+"_core"), "8080")
	gateway := net.JoinHostPort(all["gateway"].address(t, p.name+"_edge"), "8001")
	if networks := all["backend"].NetworkSettings.Networks; len(networks) != 1 {
		t.Errorf("the backend is in %d networks, want core alone", len(networks))
	}
	for _, address := range []string{backend, "backend:8080"} {
		if err := probeFrom(t, all["gateway"].State.Pid, address); err != nil {
			t.Errorf("the gateway does not reach %s: %v", address, err)
		}
		if err := probeFrom(t, all["traefik"].State.Pid, address); err == nil {
			t.Errorf("Traefik's network reaches the backend at %s", address)
		} else {
			t.Logf("from Traefik's network: %v", err)
		}
	}
	for _, address := range []string{gateway, "gateway:8001"} {
		if err := probeFrom(t, all["traefik"].State.Pid, address); err != nil {
			t.Errorf("Traefik does not reach %s: %v", address, err)
		}
	}
	for _, address := range []string{backend, "127.0.0.1:8080"} {
		if err := probe(address); err == nil {
			t.Errorf("the host reaches the backend at %s", address)
		} else {
			t.Logf("from the host: %v", err)
		}
	}
	if err := probeFrom(t, all["backend"].State.Pid, gateway); err == nil {
		t.Error("the backend's network reaches Traefik's")
	}
}

func testPrivileges(t *testing.T, p *project) {
	for _, name := range []string{"traefik", "gateway", "backend"} {
		c := p.containers(t)[name]
		status := processStatus(t, c.State.Pid)
		got := map[string]string{
			"user": status["Uid"], "group": status["Gid"], "capabilities": status["CapBnd"],
			"no new privileges": status["NoNewPrivs"], "read-only": fmt.Sprint(c.HostConfig.ReadonlyRootfs),
			"log files": c.HostConfig.LogConfig.Config["max-file"],
		}
		want := map[string]string{
			"user": "65532 65532 65532 65532", "group": "65532 65532 65532 65532", "capabilities": "0000000000000000",
			"no new privileges": "1", "read-only": "true", "log files": "3",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for _, image := range []string{"kv-store", "kv-store-gateway"} {
		if user := output(t, "docker", "image", "inspect", "--format", "{{.Config.User}}", image); user != "65532:65532" {
			t.Errorf("user of the image %s = %q, want 65532:65532", image, user)
		}
		t.Logf("%s: %s bytes", image, output(t, "docker", "image", "inspect", "--format", "{{.Size}}", image))
	}
}

// testExits fails if a program was killed (137), or died of SIGTERM (143) instead of handling it.
func testExits(t *testing.T, p *project) {
	for name, c := range p.containers(t) {
		if c.State.Running || c.State.ExitCode != 0 {
			t.Errorf("%s: running = %v, exit code = %d, want it ended with 0", name, c.State.Running, c.State.ExitCode)
		}
	}
}

// testRunDirectory mounts a user's directory and runs the program as that user.
func testRunDirectory(t *testing.T) {
	directory := t.TempDir()
	if err := os.Chown(directory, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	testOutlives(t, "--user", "1000:1000", "-v", directory+":/app/data")
	info, err := os.Stat(directory + "/kv_store.db")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d bytes", info.Name(), info.Size())
}

// testRunPrepared first changes the owner of a mounted directory to the user of the image, instead of using --user.
func testRunPrepared(t *testing.T) {
	mount := t.TempDir() + ":/app/data"
	run(t, "docker", "run", "--rm", "--user", "0:0", "-v", mount, "kv-store", "prepare", "--owner", "65532:65532")
	testOutlives(t, "-v", mount)
}

func testRunVolume(t *testing.T) {
	volume := fmt.Sprintf("kv-store-test-%d", os.Getpid())
	run(t, "docker", "volume", "create", volume)
	t.Cleanup(func() { runCleanup(t, "docker", "volume", "rm", volume) })
	testOutlives(t, "-v", volume+":/app/data", "--read-only", "--tmpfs", "/tmp")
}

// testOutlives writes in a container, removes it, and reads in another one.
func testOutlives(t *testing.T, options ...string) {
	t.Helper()
	standalone, remove := runBackend(t, options)
	put(t, standalone, "kept", `{"n": 12345678901234567890}`, 1)
	remove()
	standalone, remove = runBackend(t, options)
	expectValue(t, standalone, "kept", `{"n": 12345678901234567890}`, 1)
	remove()
}

// runBackend starts a container of the backend on a free port and waits until it serves at base. Call remove to remove it
// before the end of the test.
func runBackend(t *testing.T, options []string) (base string, remove func()) {
	t.Helper()
	arguments := slices.Concat([]string{"run", "-d", "-p", "127.0.0.1::8080"}, options, []string{"kv-store"})
	id := output(t, "docker", arguments...)
	removed := false
	remove = func() {
		if removed {
			return
		}
		removed = true
		if t.Failed() {
			runCleanup(t, "docker", "logs", id)
		}
		runCleanup(t, "docker", "stop", id)
		runCleanup(t, "docker", "rm", "-f", id)
	}
	t.Cleanup(remove)
	base = "http://" + output(t, "docker", "port", id, "8080/tcp")
	waitHealthy(t, base)
	return base, remove
}

// waitHealthy waits until the service at base is healthy.
func waitHealthy(t *testing.T, base string) {
	t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for {
		status, body, err := request(t, http.MethodGet, base+"/health", "")
		if err == nil && status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not healthy: %d %s %v", base, status, body, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func requireFree(t *testing.T, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("the test needs this port: %v", err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
}
