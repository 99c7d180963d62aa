package traefik_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestDataSurvivesARestartOfAll(t *testing.T) {
	s := newStack(t)
	put(t, "k", `"first"`).wantStatus(t, http.StatusOK)
	put(t, "k", `"second"`).wantStatus(t, http.StatusOK)
	before := get(t, "/get/k?version=1").wantStatus(t, http.StatusOK)
	for _, p := range s.processes() {
		if code := p.stop(t); code != 0 {
			t.Errorf("%s: exit code %d after SIGTERM", p.name, code)
		}
	}
	for _, p := range s.processes() {
		p.start(t)
	}
	s.waitHealthy(t)
	if after := get(t, "/get/k?version=1").wantStatus(t, http.StatusOK); after.body != before.body {
		t.Errorf("%s before and %s after", before.body, after.body)
	}
	if latest := decode[getAnswer](t, get(t, "/get/k")); latest.Version != 2 || string(latest.Value) != `"second"` {
		t.Errorf("latest: %+v", latest)
	}
	if next := decode[putAnswer](t, put(t, "k", `"third"`)); next.Version != 3 || next.Revision != 3 {
		t.Errorf("next: %+v", next)
	}
}

func TestBackendDown(t *testing.T) {
	s := newStack(t)
	put(t, "k", "1").wantStatus(t, http.StatusOK)
	s.backend.kill(t)
	for _, answer := range []response{get(t, "/get/k"), put(t, "k", "2"), get(t, "/db/stats")} {
		p := answer.wantProblem(t, http.StatusServiceUnavailable)
		if p.Detail != "Backend service is unavailable" || answer.header.Get("Retry-After") == "" {
			t.Errorf("detail %q, Retry-After %q", p.Detail, answer.header.Get("Retry-After"))
		}
	}
	s.backend.start(t)
	eventually(t, "the backend serves again", func() error { return tryGet("/get/k") })
}

func TestBackendHangs(t *testing.T) {
	s := newStack(t, "KV_BACKEND_TIMEOUT=1s")
	put(t, "k", "1").wantStatus(t, http.StatusOK)
	s.backend.freeze(t)
	started := time.Now()
	p := get(t, "/get/k").wantProblem(t, http.StatusGatewayTimeout)
	if took := time.Since(started); p.Detail != "Backend service timed out" || took < time.Second {
		t.Errorf("detail %q after %s", p.Detail, took)
	}
	s.backend.signal(t, syscall.SIGCONT)
	eventually(t, "the backend serves again", func() error { return tryGet("/get/k") })
}

// Without a gateway, Traefik itself answers 503. It uses the gateway again soon after its
// start.
func TestGatewayRestart(t *testing.T) {
	s := newStack(t)
	put(t, "k", "1").wantStatus(t, http.StatusOK)
	s.gateway.kill(t)
	eventually(t, "Traefik notices that the gateway is down", func() error {
		answer, err := tryRequest(webAddress, http.MethodGet, "/get/k", nil, "")
		if err == nil && answer.status != http.StatusServiceUnavailable {
			err = fmt.Errorf("status %d", answer.status)
		}
		return err
	})
	s.gateway.start(t)
	eventually(t, "the gateway listens", func() error {
		_, err := tryRequest(s.gatewayAddress, http.MethodGet, "/healthz", nil, "")
		return err
	})
	listens := time.Now()
	eventually(t, "Traefik uses the gateway again", func() error { return tryGet("/get/k") })
	if took := time.Since(listens); took > 3*time.Second {
		t.Errorf("it took %s", took)
	} else {
		t.Logf("Traefik used the gateway again after %s", took.Round(time.Millisecond))
	}
}

func tryGet(target string) error {
	answer, err := tryRequest(webAddress, http.MethodGet, target, nil, "")
	if err == nil && answer.status != http.StatusOK {
		err = fmt.Errorf("%d %s", answer.status, answer.body)
	}
	return err
}

// A write that is in flight when a program is asked to stop is made and answered.
func TestDrain(t *testing.T) {
	s := newStack(t)
	for version, c := range []struct {
		process *process
		address string
	}{
		{s.traefik, webAddress}, {s.gateway, s.gatewayAddress}, {s.backend, s.backendAddress},
	} {
		t.Run(c.process.name, func(t *testing.T) {
			finish := halfAWrite(t, c.address)
			c.process.signal(t, syscall.SIGTERM)
			eventually(t, "new connections are refused", func() error {
				connection, err := net.DialTimeout("tcp", c.address, patience)
				if err == nil {
					return errors.Join(errors.New("accepted"), connection.Close())
				}
				if !errors.Is(err, syscall.ECONNREFUSED) {
					return err
				}
				return nil
			})
			answer := finish()
			if got := decode[putAnswer](t, answer.wantStatus(t, http.StatusOK)); got.Version != version+1 {
				t.Errorf("version %d, want %d", got.Version, version+1)
			}
			if code := c.process.wait(t); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// halfAWrite returns when the server asks for the body of a write, which finish sends.
func halfAWrite(t *testing.T, address string) (finish func() response) {
	t.Helper()
	const body = `{"value":"in flight"}`
	connection, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	header := http.Header{"Expect": {"100-continue"}}
	if _, err := io.WriteString(connection, head(address, http.MethodPut, "/put/k", header, len(body))); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(connection)
	for _, want := range []string{"HTTP/1.1 100 Continue", ""} {
		line, err := reader.ReadString('\n')
		if err != nil || strings.TrimSpace(line) != want {
			t.Fatalf("%q, %v, want %q", line, err, want)
		}
	}
	return func() response {
		t.Helper()
		if _, err := io.WriteString(connection, body); err != nil {
			t.Fatal(err)
		}
		answer, err := finalResponse(reader)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
}

func TestMemoryAtRest(t *testing.T) {
	const limit = 100 << 20
	s := newStack(t)
	t.Logf("from start to healthy: %s", s.startTime.Round(time.Millisecond))
	for i := range 100 {
		put(t, fmt.Sprintf("k%d", i), `"v"`).wantStatus(t, http.StatusOK)
		get(t, fmt.Sprintf("/get/k%d", i)).wantStatus(t, http.StatusOK)
	}
	backend, gateway := s.backend.residentBytes(t), s.gateway.residentBytes(t)
	t.Logf("resident: backend %d KiB, gateway %d KiB, Traefik %d KiB", backend>>10, gateway>>10, s.traefik.residentBytes(t)>>10)
	if backend+gateway > limit {
		t.Errorf("backend and gateway hold %d bytes, the limit is %d", backend+gateway, limit)
	}
}
