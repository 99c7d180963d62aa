package traefik_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// dialFrom connects to Traefik from another address of this machine, like another client.
func dialFrom(source string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	conn, err := dialer.Dial("tcp", webAddress)
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(patience))
	}
	return conn, err
}

// askFrom sends a request and returns the answer without reading its body.
func askFrom(conn net.Conn, method, target string, header http.Header, body string) (*http.Response, error) {
	if _, err := io.WriteString(conn, head(webAddress, method, target, header, len(body))+body); err != nil {
		return nil, err
	}
	return http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
}

// statusFrom is like askFrom over a new connection. A 429 must be well-formed.
func statusFrom(source, method, target string, header http.Header, body string) (int, error) {
	conn, err := dialFrom(source)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	answer, err := askFrom(conn, method, target, header, body)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	got := answer.Header
	if answer.StatusCode == http.StatusTooManyRequests && (got.Get("Retry-After") == "" || got.Get("Content-Type") != "application/problem+json") {
		err = errors.Join(err, fmt.Errorf("429: %v %s", got, text))
	}
	return answer.StatusCode, err
}

const floodOfWatchers = 20

// One client opens all streams that it is allowed, and keeps asking for more, also in the name
// of another client. It must be refused, without a log line for each refusal, and all other
// clients must be served. Nothing may be left afterwards.
func TestFloodOfOneClient(t *testing.T) {
	s := newStack(t, fmt.Sprintf("KV_MAX_WATCHERS_PER_CLIENT=%d", floodOfWatchers), "KV_MAX_REQUESTS_PER_CLIENT=40", "KV_METRICS_ADDR=127.0.0.1:0")
	levels := map[string][]float64{}
	for range 2 {
		flood(t, "127.0.0.2", "127.0.0.3")
		for _, p := range []*process{s.backend, s.gateway} {
			levels[p.name] = append(levels[p.name], scrape(t, metricsURL(t, p))["go_goroutines"])
		}
	}
	if lines := len(s.gateway.log.lines("a client has too much under way")); lines == 0 || lines > 200 {
		t.Errorf("%d lines about refusals", lines)
	}
	for name, level := range levels { // the first flood may leave idle connections
		if level[1] > level[0]+floodOfWatchers {
			t.Errorf("%s: goroutines after each flood: %v", name, level)
		}
	}
}

func flood(t *testing.T, attacker, victim string) {
	t.Helper()
	forged := http.Header{"X-Forwarded-For": {victim}, "X-Real-Ip": {victim}, "Forwarded": {"for=" + victim}}
	var streams []net.Conn
	for len(streams) < floodOfWatchers {
		conn, err := dialFrom(attacker)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		answer, err := askFrom(conn, http.MethodGet, "/watch", forged, "")
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body // it has no end
		if answer.StatusCode == http.StatusOK {
			streams = append(streams, conn)
		}
	}
	var crowd sync.WaitGroup
	for range 8 {
		crowd.Go(func() {
			for range 250 {
				if status, err := statusFrom(attacker, http.MethodGet, "/watch", forged, ""); err != nil || status != http.StatusTooManyRequests {
					t.Errorf("one more stream: %d, %v", status, err)
				}
			}
		})
	}
	for _, other := range []string{victim, "127.0.0.4"} {
		for i := range 50 {
			if status, err := statusFrom(other, http.MethodPut, fmt.Sprintf("/put/k-%d", i), nil, `{"value":1}`); err != nil || status != http.StatusOK {
				t.Errorf("%s: PUT: %d, %v", other, status, err)
			}
			if status, err := statusFrom(other, http.MethodGet, fmt.Sprintf("/get/k-%d", i), nil, ""); err != nil || status != http.StatusOK {
				t.Errorf("%s: GET: %d, %v", other, status, err)
			}
		}
		conn, err := dialFrom(other)
		if err != nil {
			t.Fatal(err)
		}
		if answer, err := askFrom(conn, http.MethodGet, "/watch", nil, ""); err != nil || answer.StatusCode != http.StatusOK {
			t.Errorf("%s: watch: %+v, %v", other, answer, err)
		}
		conn.Close()
	}
	crowd.Wait()
	for _, conn := range streams {
		conn.Close()
	}
	eventually(t, "the streams have ended", func() error {
		status, err := statusFrom(attacker, http.MethodHead, "/watch", forged, "")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
}
