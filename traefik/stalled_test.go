package traefik_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
)

// crowd is the number of such clients.
const crowd = 40

// Clients request a large value and never read, through Traefik and at the gateway. Other clients
// must be served, and nothing may be left of those at the gateway.
func TestClientsThatNeverRead(t *testing.T) {
	s := newStack(t, "KV_WRITE_TIMEOUT=1s", "KV_METRICS_ADDR=127.0.0.1:0", "KV_MAX_VALUE_BYTES=8MiB")
	answer := request(t, webAddress, http.MethodPut, "/put/large", nil, `{"value":"`+strings.Repeat("v", 7<<20)+`"}`)
	answer.wantStatus(t, http.StatusOK)
	put(t, "small", "0")
	before := held(t, s)
	for _, address := range []string{webAddress, s.gatewayAddress, webAddress, s.gatewayAddress} {
		neverRead(t, s, address)
	}
	eventually(t, "nothing is left of them", func() error {
		for what, n := range held(t, s) {
			if n > before[what]+crowd { // idle connections on which the answer was 503
				return fmt.Errorf("%s: %.0f before, %.0f after", what, before[what], n)
			}
		}
		return nil
	})
	for _, p := range s.processes() {
		t.Logf("%s holds %d MiB", p.name, p.residentBytes(t)>>20)
		if bytes := p.residentBytes(t); bytes > 1<<30 {
			t.Errorf("%s holds %d MiB", p.name, bytes>>20)
		}
	}
}

// held returns the number of goroutines and open files of backend and gateway.
func held(t *testing.T, s *stack) map[string]float64 {
	t.Helper()
	held := map[string]float64{}
	for _, p := range []*process{s.backend, s.gateway} {
		values := scrape(t, metricsURL(t, p))
		held[p.name+", goroutines"] = values["go_goroutines"]
		held[p.name+", open files"] = values["process_open_fds"]
	}
	return held
}

func neverRead(t *testing.T, s *stack, address string) {
	t.Helper()
	var conns []net.Conn
	for n := range crowd {
		conn, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			t.Fatalf("connection %d: %v", n, err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(head(address, http.MethodGet, "/get/large", nil, 0))); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	for i := range 100 {
		request(t, webAddress, http.MethodPut, fmt.Sprintf("/put/k-%d", i), nil, `{"value":1}`).wantStatus(t, http.StatusOK)
		get(t, "/get/small").wantStatus(t, http.StatusOK)
	}
	eventually(t, "a large value is served again", func() error {
		answer, err := tryRequest(webAddress, http.MethodGet, "/get/large", nil, "")
		if err == nil && answer.status != http.StatusOK {
			err = fmt.Errorf("status %d", answer.status)
		}
		return err
	})
	if address == s.gatewayAddress { // Traefik's buffers may have taken everything
		eventually(t, "clients that do not read are disconnected", func() error {
			if len(s.gateway.log.lines("does not take its answer")) == 0 {
				return errors.New("no client was disconnected")
			}
			return nil
		})
	}
	for _, conn := range conns {
		conn.Close()
	}
}
