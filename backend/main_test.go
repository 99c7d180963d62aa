package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	main "kvstore/backend"
	"kvstore/backend/database/postgres/postgrestest"
	"kvstore/internal/settings"
	"kvstore/internal/telemetry/telemetrytest"
)

// program is a whole backend that runs within the test.
type program struct {
	url    string
	log    *telemetrytest.Journal
	stop   context.CancelFunc
	result chan error
}

func boot(t *testing.T, env map[string]string) *program {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	p := &program{log: &telemetrytest.Journal{}, stop: stop, result: make(chan error, 1)}
	go func() {
		p.result <- main.Run(ctx, []string{"--backend-addr", "127.0.0.1:0"}, func(name string) string { return env[name] }, p.log)
	}()
	t.Cleanup(stop)
	for deadline := time.Now().Add(10 * time.Second); ; {
		if address, ok := listening(p.log.String()); ok {
			p.url = "http://" + address
			return p
		}
		select {
		case err := <-p.result:
			t.Fatalf("the program ended: %v\n%s", err, p.log)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the program does not listen:\n%s", p.log)
		}
	}
}

func listening(log string) (string, bool) {
	for line := range strings.Lines(log) {
		var fields struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &fields) == nil && fields.Msg == "listening" {
			return fields.Address, true
		}
	}
	return "", false
}

func (p *program) request(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, p.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(data)
}

func TestServeRestartServe(t *testing.T) {
	env := map[string]string{"KV_DATABASE_URL": "sqlite:" + filepath.Join(t.TempDir(), "new", "kv.db"), "KV_CACHE_MAX_KEYS": "1"}
	first := boot(t, env)
	if status, body := first.request(t, "PUT", "/put/k", `{"value":"v"}`); status != 200 {
		t.Fatal(status, body)
	}
	first.stop()
	if err := <-first.result; err != nil {
		t.Fatalf("a clean stop returned %v", err)
	}
	second := boot(t, env)
	if status, body := second.request(t, "GET", "/get/k", ""); status != 200 || !strings.Contains(body, `"value":"v","version":1`) {
		t.Error(status, body)
	}
}

// TestDrain stops the program while the body of a write is being sent. The write must be
// answered and kept.
func TestDrain(t *testing.T) {
	env := map[string]string{"KV_DATABASE_URL": "sqlite:" + filepath.Join(t.TempDir(), "kv.db")}
	p := boot(t, env)
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const head, tail = `{"value":`, `"late"}`
	if _, err := io.WriteString(conn, "PUT /put/k HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 25) // HTTP/1.1 100 Continue: the handler reads the body
	if _, err := io.ReadFull(conn, buf); err != nil || !strings.Contains(string(buf), "100 Continue") {
		t.Fatalf("%q, %v", buf, err)
	}
	p.stop()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(p.log.String(), "stopping"); {
		if time.Now().After(deadline) {
			t.Fatal("the program does not stop")
		}
	}
	if _, err := io.WriteString(conn, head+tail); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 OK") {
		t.Errorf("the request in flight got %q, %v", answer, err)
	}
	if err := <-p.result; err != nil {
		t.Errorf("the drained program returned %v", err)
	}
	again := boot(t, env)
	if status, body := again.request(t, "GET", "/get/k", ""); status != 200 || !strings.Contains(body, `"late"`) {
		t.Error(status, body)
	}
}

func TestRetention(t *testing.T) {
	p := boot(t, map[string]string{"KV_DATABASE_URL": "sqlite:" + filepath.Join(t.TempDir(), "kv.db"), "KV_MAX_VERSIONS": "1"})
	p.request(t, "PUT", "/put/k", `{"value":1}`)
	p.request(t, "PUT", "/put/k", `{"value":2}`)
	var status int
	var body string
	for deadline := time.Now().Add(10 * time.Second); status != http.StatusGone; {
		if time.Now().After(deadline) {
			t.Fatalf("version 1 is still answered: %d %s", status, body)
		}
		status, body = p.request(t, "GET", "/get/k?version=1", "")
	}
	if !strings.Contains(body, `"detail":"Key 'k' version 1 was removed","code":"version_gone"`) {
		t.Error(body)
	}
	if status, body := p.request(t, "GET", "/get/k", ""); status != 200 || !strings.Contains(body, `"value":2,"version":2`) {
		t.Error(status, body)
	}
	if status, body := p.request(t, "GET", "/get/k?version=3", ""); status != 404 {
		t.Error(status, body)
	}
}

func TestMistakesAreReportedTogether(t *testing.T) {
	env := map[string]string{
		"KV_BACKEND_ADDR": "nowhere", "KV_DATABASE_URL": "mysql://h/db", "KV_CACHE_MAX_KEYS": "0",
		"KV_CACHE_MAX_BYTES": "much", "KV_MAX_VALUE_BYTES": "2GiB", "KV_LOG_LEVEL": "loud", "KV_LOG_FORMAT": "xml",
		"KV_MAX_VERSIONS": "-1", "KV_MAX_VERSION_AGE": "-1s", "KV_METRICS_ADDR": "9091",
		"KV_DATABASE_CONNECTIONS": "1001",
	}
	err := main.Run(t.Context(), []string{"--cache-max-keys", "-1"}, func(name string) string { return env[name] }, io.Discard)
	var mistakes *settings.Error
	if !errors.As(err, &mistakes) {
		t.Fatalf("Run = %v, want a *settings.Error", err)
	}
	delete(env, "KV_CACHE_MAX_KEYS") // the flag takes precedence
	for _, name := range []string{"KV_BACKEND_ADDR", "KV_DATABASE_URL", "KV_DATABASE_CONNECTIONS", "KV_CACHE_MAX_BYTES", "KV_MAX_VALUE_BYTES", "KV_MAX_VERSIONS", "KV_MAX_VERSION_AGE", "KV_METRICS_ADDR", "KV_LOG_LEVEL", "KV_LOG_FORMAT", `--cache-max-keys="-1"`} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in:\n%v", name, err)
		}
	}
	if len(mistakes.Mistakes) != 11 {
		t.Errorf("%d mistakes, want 11:\n%v", len(mistakes.Mistakes), err)
	}
}

func TestMetricsNeedAnAddressOfTheirOwn(t *testing.T) {
	err := main.Run(t.Context(), []string{"--backend-addr=127.0.0.1:1", "--metrics-addr=:1"}, func(string) string { return "" }, io.Discard)
	var mistakes *settings.Error
	if !errors.As(err, &mistakes) || !strings.Contains(err.Error(), `KV_METRICS_ADDR=":1": is the address of KV_BACKEND_ADDR (127.0.0.1:1)`) {
		t.Errorf("got %v", err)
	}
}

func TestHelpAndVersion(t *testing.T) {
	var out bytes.Buffer
	if err := main.Run(t.Context(), []string{"--help"}, func(string) string { return "" }, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"KV_BACKEND_ADDR", "127.0.0.1:8080", "KV_DATABASE_URL", "sqlite:data/kv_store.db", "KV_DATABASE_CONNECTIONS", "KV_CACHE_MAX_KEYS", "100", "KV_CACHE_MAX_BYTES", "64MiB", "KV_MAX_VALUE_BYTES", "1MiB", "KV_MAX_VERSIONS", "KV_MAX_VERSION_AGE", "KV_MAX_WATCHERS", "KV_MAX_REQUESTS", "KV_MAX_QUEUED_WRITES", "KV_MAX_QUEUED_BYTES", "KV_METRICS_ADDR", "KV_LOG_LEVEL", "KV_LOG_FORMAT"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the help lacks %s:\n%s", want, &out)
		}
	}
	out.Reset()
	if err := main.Run(t.Context(), []string{"--version"}, func(string) string { return "" }, &out); err != nil || !strings.HasPrefix(out.String(), "backend dev (") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("--version: %q, %v", &out, err)
	}
}

func TestCommands(t *testing.T) {
	dir := t.TempDir()
	env := map[string]string{"KV_DATABASE_URL": "sqlite:" + filepath.Join(dir, "kv.db")}
	do := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := main.Run(t.Context(), args, func(name string) string { return env[name] }, &out)
		return out.String(), err
	}
	p := boot(t, env)
	p.request(t, "PUT", "/put/k", `{"value":1}`)
	copied := filepath.Join(dir, "copy.db")
	if out, err := do("backup", copied); err != nil || !strings.Contains(out, "backup written and checked") {
		t.Errorf("backup: %q, %v", out, err)
	}
	if out, err := do("check"); err != nil || !strings.Contains(out, "is sound") {
		t.Errorf("check: %q, %v", out, err)
	}
	if _, err := do("restore", copied); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("restore under a live store: %v", err)
	}
	env["KV_BACKEND_ADDR"] = strings.TrimPrefix(p.url, "http://")
	if _, err := do("healthcheck"); err != nil {
		t.Errorf("healthcheck of a live server: %v", err)
	}
	p.request(t, "PUT", "/put/k", `{"value":2}`)
	p.stop()
	if err := <-p.result; err != nil {
		t.Fatal(err)
	}
	if _, err := do("healthcheck"); err == nil {
		t.Error("healthcheck of a stopped server succeeded")
	}
	if out, err := do("restore", copied); err != nil || !strings.Contains(out, "is kept as") {
		t.Errorf("restore: %q, %v", out, err)
	}
	p = boot(t, env)
	if status, body := p.request(t, "GET", "/get/k", ""); status != 200 || !strings.Contains(body, `"value":1,"version":1`) {
		t.Errorf("after the restore: %d %s", status, body)
	}
	for _, args := range [][]string{{"nonsense"}, {"backup"}, {"restore"}, {"check", "x", "y"}, {"prepare"}, {"prepare", "--owner=me"}, {"--nonsense"}} {
		var mistakes *settings.Error
		if _, err := do(args...); !errors.As(err, &mistakes) {
			t.Errorf("%q: %v, want a *settings.Error", args, err)
		}
	}
}

// TestPostgres serves a store on PostgreSQL. The password is in no line of the log and in no mistake.
func TestPostgres(t *testing.T) {
	server := postgrestest.Server(t, nil)
	url := server.URL("postgres")
	env := map[string]string{"KV_DATABASE_URL": url, "KV_LOG_LEVEL": "debug"}
	hidden := func(text string) bool {
		return !strings.Contains(text, "for%20tests") && !strings.Contains(text, postgrestest.Password)
	}
	for version := range 2 { // the second finds what the first wrote
		p := boot(t, env)
		if status, body := p.request(t, "PUT", "/put/k", `{"value":1}`); status != 200 || !strings.Contains(body, fmt.Sprintf(`"version":%d`, version+1)) {
			t.Errorf("%d %s", status, body)
		}
		if status, body := p.request(t, "GET", "/get/k", ""); status != 200 || !strings.Contains(body, `"value":1`) {
			t.Errorf("%d %s", status, body)
		}
		if status, body := p.request(t, "GET", "/health", ""); status != 200 || !hidden(body) {
			t.Errorf("/health: %d %s", status, body)
		}
		p.stop()
		if err := <-p.result; err != nil {
			t.Error(err)
		}
		if log := p.log.String(); !strings.Contains(log, "postgres://postgres@"+server.Address()+"/postgres") || !hidden(log) {
			t.Errorf("the log:\n%s", log)
		}
	}
	for _, args := range [][]string{{"compact"}, {"prepare", "--owner=1:1"}, {"--database-url=" + url + "?sslmode=wrong"}} {
		err := main.Run(t.Context(), args, func(name string) string { return env[name] }, io.Discard)
		var mistakes *settings.Error
		if !errors.As(err, &mistakes) || strings.Contains(err.Error(), "for%20tests") || strings.Contains(err.Error(), postgrestest.Password) {
			t.Errorf("%v: %v", args, err)
		}
	}
}
