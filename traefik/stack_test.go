package traefik_test

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// A stack is the whole service. Backend and gateway use free ports, so that KV_GATEWAY_URL is
// tested. The tests of the launcher use the default ports.
type stack struct {
	backend, gateway, traefik *process

	backendAddress, gatewayAddress string
	startTime                      time.Duration // from the start of the processes to the first healthy answer
}

// newStack starts a service with an empty store. env is for all processes.
func newStack(t *testing.T, env ...string) *stack {
	t.Helper()
	started := time.Now()
	s := startStack(t, env...)
	s.waitHealthy(t)
	exchanges.stacks.Add(1)
	t.Cleanup(func() { exchanges.stacks.Add(-1) })
	s.startTime = time.Since(started)
	return s
}

// startStack starts the processes without waiting.
func startStack(t *testing.T, env ...string) *stack {
	t.Helper()
	s := &stack{backendAddress: freeAddress(t), gatewayAddress: freeAddress(t)}
	env = append([]string{
		"KV_DATABASE_URL=sqlite:" + filepath.Join(t.TempDir(), "kv_store.db"),
		"KV_BACKEND_ADDR=" + s.backendAddress,
		"KV_GATEWAY_ADDR=" + s.gatewayAddress,
		"KV_BACKENDS=http://" + s.backendAddress,
		"KV_GATEWAY_URL=http://" + s.gatewayAddress,
	}, env...)
	s.backend = newProcess(t, "backend", programs.backend, nil, env)
	s.gateway = newProcess(t, "gateway", programs.gateway, nil, env)
	s.traefik = newTraefik(t, env...)
	for _, p := range s.processes() {
		p.start(t)
	}
	return s
}

// newTraefik returns Traefik as a local run starts it.
func newTraefik(t *testing.T, env ...string) *process {
	t.Helper()
	return newProcess(t, "traefik", programs.traefik, []string{"--configFile=traefik/traefik.yml"}, env)
}

func (s *stack) processes() []*process { return []*process{s.backend, s.gateway, s.traefik} }

// addresses returns the addresses of the hops, which all have the same contract.
func (s *stack) addresses() map[string]string {
	return map[string]string{"traefik": webAddress, "gateway": s.gatewayAddress, "backend": s.backendAddress}
}

func (s *stack) waitHealthy(t *testing.T) {
	t.Helper()
	eventually(t, "the service is healthy", func() error {
		response, err := tryRequest(webAddress, http.MethodGet, "/health", nil, "")
		if err == nil && response.status != http.StatusOK {
			err = fmt.Errorf("%d %s", response.status, response.body)
		}
		return err
	})
}

// freeAddress returns an address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
