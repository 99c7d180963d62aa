package telemetry_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"kvstore/internal/telemetry"
	"kvstore/internal/telemetry/telemetrytest"
)

// TestMalformedRequests checks that the answers of net/http itself become problems, and
// that a similar answer of a handler stays as it is.
func TestMalformedRequests(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "of a handler")
	})
	log := &telemetrytest.Journal{}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- telemetry.Serve(ctx, listener, handler, slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	}()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	for request, status := range map[string]int{
		"GET /get/100% HTTP/1.1\r\nHost: x\r\n\r\n":                                    400,
		"GET /x HTTP/1.1\r\n\r\n":                                                      400, // no Host
		"GET /x HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n":                          400,
		"GET /x HTTP/3.0\r\nHost: x\r\n\r\n":                                           505,
		"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n":               501,
		"nonsense\r\n\r\n":                                                             400,
		"GET /x HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 80<<10) + "\r\n\r\n": 431,
		"GET /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n": 400,
	} {
		answer, body := exchange(t, listener.Addr().String(), request)
		var fields struct {
			Status       int
			Code, Detail string
		}
		if err := json.Unmarshal([]byte(body), &fields); err != nil {
			t.Errorf("%.60q: %v in %q", request, err, body)
			continue
		}
		if answer.StatusCode != status || fields.Status != status || fields.Code != "malformed_request" || fields.Detail == "" {
			t.Errorf("%.60q: %d %s, want %d", request, answer.StatusCode, body, status)
		}
		if answer.Header.Get("Content-Type") != "application/problem+json" || answer.Header.Get("X-Request-Id") == "" || !answer.Close {
			t.Errorf("%.60q: header %v", request, answer.Header)
		}
		if id := answer.Header.Get("X-Request-Id"); !strings.Contains(log.String(), `"request_id":"`+id+`"`) {
			t.Errorf("%.60q: the log has no request %s", request, id)
		}
	}
	answer, body := exchange(t, listener.Addr().String(), "GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if answer.StatusCode != http.StatusBadRequest || body != "of a handler" {
		t.Errorf("an answer of the handler became %d %q", answer.StatusCode, body)
	}
}

func exchange(t *testing.T, address, request string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, request) }()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%.60q: %v", request, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("%.60q: %v", request, err)
	}
	return answer, string(body)
}
