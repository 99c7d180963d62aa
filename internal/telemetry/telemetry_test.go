package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"kvstore/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLogLinesCarryTheRequestID(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		var out bytes.Buffer
		logger, err := telemetry.NewLogger(&out, "debug", format)
		if err != nil {
			t.Fatal(err)
		}
		handler := telemetry.Requests(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			logger.With("a", 1).InfoContext(r.Context(), "inside")
		}), logger)
		request := httptest.NewRequest(http.MethodGet, "/x", http.NoBody)
		request.Header.Set("X-Request-Id", "the-id")
		handler.ServeHTTP(httptest.NewRecorder(), request)
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 2 {
			t.Fatalf("%s: %d lines, want 2:\n%s", format, len(lines), &out)
		}
		for _, line := range lines {
			if !strings.Contains(line, "the-id") {
				t.Errorf("%s: no request id in %s", format, line)
			}
		}
	}
	if _, err := telemetry.NewLogger(io.Discard, "loud", "json"); err == nil {
		t.Error("NewLogger accepted the level loud")
	}
}

func TestPanicIsAnswered(t *testing.T) {
	var out bytes.Buffer
	handler := telemetry.Requests(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		panic("the secret cause")
	}), slog.New(slog.NewJSONHandler(&out, nil)))
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/x", http.NoBody))
	var fields map[string]any
	if err := json.Unmarshal(recorder.Body.Bytes(), &fields); err != nil {
		t.Fatal(err)
	}
	if recorder.Code != 500 || fields["code"] != "internal" || strings.Contains(recorder.Body.String(), "secret") {
		t.Errorf("answered %d %s", recorder.Code, recorder.Body)
	}
	if !strings.Contains(out.String(), "the secret cause") {
		t.Errorf("the cause is not logged: %s", &out)
	}
}

func TestServeDrains(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	entered, release := make(chan struct{}), make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "answered")
	})
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- telemetry.Serve(ctx, listener, handler, slog.New(slog.DiscardHandler)) }()
	body := make(chan string, 1)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	go func() {
		response, err := client.Get("http://" + listener.Addr().String())
		if err != nil {
			body <- err.Error()
			return
		}
		defer response.Body.Close()
		data, _ := io.ReadAll(response.Body)
		body <- string(data)
	}()
	<-entered
	stop()
	select {
	case err := <-served:
		t.Fatalf("Serve returned %v with a request in flight", err)
	default:
	}
	close(release)
	if got := <-body; got != "answered" {
		t.Errorf("the request in flight got %q", got)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve = %v", err)
	}
}

func TestHealthcheck(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ok" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	address := server.Listener.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	for _, address := range []string{address, ":" + port, "0.0.0.0:" + port} {
		if err := telemetry.Healthcheck(t.Context(), address, "/ok"); err != nil {
			t.Errorf("Healthcheck(%s) = %v", address, err)
		}
	}
	if err := telemetry.Healthcheck(t.Context(), address, "/bad"); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("Healthcheck of a failing server = %v", err)
	}
}
