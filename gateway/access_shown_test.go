package main_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	main "kvstore/gateway"
)

// serving runs a gateway until the test ends.
func serving(t *testing.T, args ...string) *journal {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	log, ended := &journal{}, make(chan error, 1)
	go func() {
		ended <- main.Run(ctx, append(args, "--gateway-addr=127.0.0.1:0", "--drain-delay=1ms"), env(map[string]string{"KV_BACKENDS": "http://127.0.0.1:1"}), log)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	log.address(t)
	return log
}

// The log says whether access control is on, for those who misspelled the setting.
func TestSaysWhetherAccessIsOn(t *testing.T) {
	if log := serving(t).String(); !strings.Contains(log, "access control is off: whoever reaches this gateway may read, write and destroy everything") {
		t.Error(log)
	}
	path := filepath.Join(t.TempDir(), "tokens.yml")
	if _, err := token(t, path, "new", "--name=ci", "--rule=read:", "--expires=never"); err != nil {
		t.Fatal(err)
	}
	log := serving(t, "--tokens-file", path, "--metrics-addr=127.0.0.1:0")
	if text := log.String(); !strings.Contains(text, `"access control is on","path":"`+path+`","tokens":1`) {
		t.Error(text)
	}
	metrics := ""
	for line := range strings.Lines(log.String()) {
		var entry struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &entry) == nil && strings.Contains(entry.Msg, "metrics") {
			metrics = "http://" + entry.Address + "/metrics"
		}
	}
	wantMetrics := func(lines ...string) {
		t.Helper()
		deadline := time.After(patience)
		for {
			_, text := get(t, metrics)
			missing := ""
			for _, line := range lines {
				if !strings.Contains(text, line+"\n") {
					missing = line
				}
			}
			if missing == "" {
				return
			}
			select {
			case <-deadline:
				t.Fatalf("no %s in %s", missing, text)
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	wantMetrics("kv_gateway_tokens 1", "kv_gateway_tokens_file_usable 1")
	if err := os.WriteFile(path, []byte("tokens:\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantMetrics("kv_gateway_tokens 1", "kv_gateway_tokens_file_usable 0")
}
