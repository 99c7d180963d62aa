package main_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	main "kvstore/gateway"
	"kvstore/internal/telemetry"
)

// token runs "gateway token" and returns what it prints.
func token(t *testing.T, path string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := main.Run(t.Context(), append([]string{"token"}, args...), env(map[string]string{"KV_TOKENS_FILE": path}), &out)
	return out.String(), err
}

func TestTokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.yml")
	secret, err := token(t, path, "new", "--name", "ci", "--rule", "read,write:app/", "--rule", "read:", "--expires", "never")
	if err != nil || !regexp.MustCompile(`^kv_[A-Za-z0-9_-]{43}\n$`).MatchString(secret) {
		t.Fatalf("%q %v", secret, err)
	}
	secret = strings.TrimSpace(secret)
	if _, err := token(t, path, "new", "--name=ops", "--rule=admin:", "--expires=2099-01-31T01:00:00+01:00"); err != nil {
		t.Fatal(err)
	}
	const want = "NAME  EXPIRES               RULES\n" +
		"ci    never                 read,write:app/ read:\n" +
		"ops   2099-01-31T00:00:00Z  admin:\n"
	if got, err := token(t, path, "list"); err != nil || got != want {
		t.Errorf("%s %v", got, err)
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(text), secret) {
		t.Errorf("%s %v", text, err)
	}

	url := backend(t, "s", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Header.Get("X-Kv-Author")) })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log, ended := &journal{}, make(chan error, 1)
	go func() {
		ended <- main.Run(ctx, []string{"--gateway-addr=127.0.0.1:0", "--tokens-file", path, "--log-level=debug"},
			env(map[string]string{"KV_BACKENDS": url}), log)
	}()
	address := "http://" + log.address(t)
	if status, _ := get(t, address+"/get/app/k"); status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", status)
	}
	withToken := func() (int, string) {
		return ask(t, http.MethodGet, address+"/get/app/k", "", "Authorization", "Bearer "+secret)
	}
	if status, body := withToken(); status != http.StatusOK || body != "ci" {
		t.Errorf("with a token: %d %s", status, body)
	}
	if got, err := token(t, path, "revoke", "ci"); err != nil || !strings.HasPrefix(got, "token ci is revoked") {
		t.Error(got, err)
	}
	deadline := time.After(patience)
	for status := 0; status != http.StatusUnauthorized; status, _ = withToken() {
		select {
		case <-deadline:
			t.Fatal("the token is not revoked")
		case <-time.After(5 * time.Millisecond):
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if strings.Contains(log.String(), secret) {
		t.Error("the log has the token")
	}
}

func TestTokenMistakes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.yml")
	for _, c := range []struct {
		args []string
		want []string
	}{
		{nil, []string{`"" is not new, list or revoke NAME`}},
		{[]string{"make"}, []string{`"make" is not new, list or revoke NAME`}},
		{[]string{"revoke"}, []string{`"revoke" is not new`}},
		{[]string{"new"}, []string{"--name: must be 1 to 64", "--rule: must be there", `--expires="": must be a duration such as 720h`}},
		{
			[]string{"new", "--name", "a b", "--rule", "read", "--rule", "reed:a", "--rule", "read:\n", "--expires", "-1h"},
			[]string{"--name: ", `--rule="read": must be rights:prefix`, `--rule="reed:a": must be`, `--rule="read:\n": must be at most 512 bytes`, `--expires="-1h": must`},
		},
		{[]string{"new", "--name=a", "--rule=read:", "--expires=2020-01-01T00:00:00Z"}, []string{`--expires="2020-01-01T00:00:00Z": must be`}},
		{[]string{"list", "--tokens-fil", "x"}, []string{"unknown flag: --tokens-fil"}},
	} {
		_, err := token(t, path, c.args...)
		if telemetry.ExitCode(err) != telemetry.ExitConfiguration {
			t.Errorf("%q: %v", c.args, err)
			continue
		}
		for _, text := range c.want {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%q: no %q in %v", c.args, text, err)
			}
		}
	}
	if _, err := token(t, "", "list"); err == nil || !strings.Contains(err.Error(), "--tokens-file or KV_TOKENS_FILE must name") {
		t.Error(err)
	}
	if _, err := token(t, path, "list"); telemetry.ExitCode(err) != telemetry.ExitFailed {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("a mistake has made the file")
	}
	if got, err := token(t, path, "--help"); err != nil || !strings.Contains(got, "none includes another") {
		t.Error(got, err)
	}
}

func TestRunRefusesABadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.yml")
	run := func() error {
		return main.Run(t.Context(), []string{"--gateway-addr=127.0.0.1:0", "--tokens-file", path}, env(nil), io.Discard)
	}
	if err := run(); telemetry.ExitCode(err) != telemetry.ExitConfiguration || !strings.Contains(err.Error(), "KV_TOKENS_FILE: read the file of tokens: open "+path) {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("tokens:\n- name: a\n  rules: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(); telemetry.ExitCode(err) != telemetry.ExitConfiguration || !strings.Contains(err.Error(), `line 2: token "a": sha256: must be there`) {
		t.Error(err)
	}
}
