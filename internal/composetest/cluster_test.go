//go:build compose

package composetest_test

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestCluster starts the profile cluster: what is reachable from where, a backend that is killed, and
// data that outlives the containers.
func TestCluster(t *testing.T) {
	requireFree(t, ":8000")
	p := newProject(t)
	p.environment = append(p.environment, "KV_CLUSTER_PASSWORD=for-tests-only")
	p.command = append(p.command, "--profile", "cluster")
	p.services = []string{"backend-1", "backend-2", "backend-3", "cluster", "gateway-1", "gateway-2", "primary", "standby"}
	start := time.Now()
	p.compose(t, "up", "--build", "-d", "cluster")
	waitHealthy(t, service)
	t.Logf("built, started and healthy after %v", time.Since(start).Round(time.Second))
	put(t, service, probeKey, probeValue, 1)
	expectValue(t, service, probeKey, probeValue, 1)

	all := p.containers(t)
	published := []string{}
	for name, c := range all {
		for _, bindings := range c.NetworkSettings.Ports {
			if len(bindings) > 0 {
				published = append(published, name)
			}
		}
	}
	if diff := cmp.Diff([]string{"cluster"}, published); diff != "" || len(all) != len(p.services) {
		t.Errorf("%d containers; those that publish a port (-want +got):\n%s", len(all), diff)
	}
	t.Run("Networks", func(t *testing.T) { testClusterNetworks(t, p, all) })
	t.Run("SynchronousStandby", func(t *testing.T) {
		if state := primarySays(t, p, "SELECT sync_state FROM pg_stat_replication"); state != "sync" {
			t.Errorf("the standby is %q", state)
		}
	})
	t.Run("BackendKilled", func(t *testing.T) {
		p.compose(t, "kill", "backend-1")
		put(t, service, probeKey, `"without the first backend"`, 2)
		expectValue(t, service, probeKey, `"without the first backend"`, 2)
	})

	p.compose(t, "down")
	p.compose(t, "up", "-d", "cluster")
	waitHealthy(t, service)
	expectValue(t, service, probeKey, `"without the first backend"`, 2)
	p.compose(t, "stop")
	t.Run("CleanExits", func(t *testing.T) { testExits(t, p) })
}

// primarySays returns what the primary answers to a query.
func primarySays(t *testing.T, p *project, query string) string {
	t.Helper()
	id := output(t, "docker", "ps", "-q", "--filter", "label=com.docker.compose.project="+p.name,
		"--filter", "label=com.docker.compose.service=primary")
	return strings.TrimSpace(output(t, "docker", "exec", id, "psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-U", "postgres", "-c", query))
}

// testClusterNetworks: gateways reach backends, backends reach PostgreSQL, and nobody else does.
func testClusterNetworks(t *testing.T, p *project, all map[string]container) {
	engine := net.JoinHostPort(all["primary"].address(t, p.name+"_engine"), "5432")
	backend := net.JoinHostPort(all["backend-2"].address(t, p.name+"_core"), "8080")
	for _, c := range []struct {
		from, to string
		reaches  bool
	}{
		{"gateway-1", backend, true}, {"gateway-2", "backend-3:8080", true}, {"cluster", backend, false}, {"cluster", "gateway-2:8001", true},
		{"backend-1", engine, true}, {"backend-1", "standby:5432", true}, {"gateway-1", engine, false}, {"cluster", engine, false},
	} {
		err := probeFrom(t, all[c.from].State.Pid, c.to)
		reached := err == nil || strings.Contains(err.Error(), "EOF") // PostgreSQL hangs up on HTTP
		if reached != c.reaches {
			t.Errorf("from %s to %s: %v, want that it reaches it: %t", c.from, c.to, err, c.reaches)
		}
	}
	for _, address := range []string{engine, backend} {
		if err := probe(address); err == nil {
			t.Errorf("the host reaches %s", address)
		}
	}
	if status, _, err := request(t, http.MethodGet, service+"/metrics", ""); err != nil || status != http.StatusNotFound {
		t.Errorf("/metrics: %d %v", status, err)
	}
}
