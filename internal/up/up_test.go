package main_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	up "kvstore/internal/up"
)

func env(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

func TestEnvironments(t *testing.T) {
	const first, url = "KV_GATEWAY_ADDR=127.0.0.1:8001", "KV_GATEWAY_URL=http://127.0.0.1:8001"
	for _, c := range []struct {
		name             string
		env              map[string]string
		cluster          bool
		gateway, traefik []string
	}{
		{"nothing set", nil, false, []string{first, "KV_BACKENDS=http://127.0.0.1:8080"}, []string{url}},
		{
			"addresses set", map[string]string{"KV_BACKEND_ADDR": ":9080", "KV_GATEWAY_ADDR": "[::1]:9001"}, false,
			[]string{"KV_GATEWAY_ADDR=[::1]:9001", "KV_BACKENDS=http://127.0.0.1:9080"}, []string{"KV_GATEWAY_URL=http://[::1]:9001"},
		},
		{
			"metrics set", map[string]string{"KV_METRICS_ADDR": "127.0.0.1:9091", "KV_BACKENDS": "http://b"}, false,
			[]string{first, "KV_METRICS_ADDR=127.0.0.1:9092"}, []string{url},
		},
		{"targets set", map[string]string{"KV_BACKENDS": "http://b", "KV_GATEWAY_URL": "http://g"}, false, []string{first}, nil},
		{
			"cluster", map[string]string{"KV_METRICS_ADDR": ":9091"}, true,
			[]string{
				"KV_GATEWAY_ADDR=127.0.0.1:8012", "KV_METRICS_ADDR=:9095",
				"KV_BACKENDS=http://127.0.0.1:8081,http://127.0.0.1:8082,http://127.0.0.1:8083",
			},
			[]string{"KV_GATEWAY_URL=http://127.0.0.1:8011,http://127.0.0.1:8012"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			gateway, traefik := up.Environments(env(c.env), c.cluster)
			if diff := cmp.Diff([][]string{c.gateway, c.traefik}, [][]string{gateway, traefik}); diff != "" {
				t.Errorf("added to the environment (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheckFreeNamesEveryTakenPort(t *testing.T) {
	taken := func() string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		return listener.Addr().String()
	}
	backend, gateway := taken(), taken()
	err := up.CheckFree(t.Context(), env(map[string]string{"KV_BACKEND_ADDR": backend, "KV_GATEWAY_ADDR": gateway}))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"backend cannot listen on " + backend + ": the port is taken",
		"gateway cannot listen on " + gateway + ": the port is taken",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
}

func TestCheckFreeFindsSharedAddresses(t *testing.T) {
	err := up.CheckFree(t.Context(), env(map[string]string{"KV_BACKEND_ADDR": "127.0.0.1:0", "KV_METRICS_ADDR": "127.0.0.1:8000"}))
	for _, want := range []string{
		`backend metrics="127.0.0.1:8000": is the address of traefik (:8000); give it another port`,
		`gateway metrics="127.0.0.1:8001": is the address of gateway (127.0.0.1:8001); give it another port`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func TestWaitHealthy(t *testing.T) {
	t.Run("after a few 503", func(t *testing.T) {
		var asked atomic.Int32
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if asked.Add(1) < 3 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
		defer server.Close()
		if err := up.WaitHealthy(t.Context(), server.URL, time.Minute); err != nil || asked.Load() != 3 {
			t.Errorf("WaitHealthy = %v after %d requests", err, asked.Load())
		}
	})
	t.Run("never", func(t *testing.T) {
		server := httptest.NewServer(http.NotFoundHandler())
		defer server.Close()
		err := up.WaitHealthy(t.Context(), server.URL, 5*up.HealthPeriod)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "404 Not Found") {
			t.Errorf("WaitHealthy = %v, want the last answer", err)
		}
	})
	t.Run("until the context ends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := up.WaitHealthy(ctx, "http://127.0.0.1:1", time.Minute); !errors.Is(err, context.Canceled) {
			t.Errorf("WaitHealthy = %v", err)
		}
	})
}

func TestRunReturnsTheExitCode(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want int
		text string
	}{
		{"unknown flag", []string{"--nonsense"}, 2, "build-only"},
		{"argument", []string{"nonsense"}, 2, ""},
		{"not in the root", nil, 1, "is not the root of the repository"}, // but in the directory of this test
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			if got := up.Run(t.Context(), c.args, env(nil), &out); got != c.want || !strings.Contains(out.String(), c.text) {
				t.Errorf("exit code %d, want %d; output:\n%s", got, c.want, out.String())
			}
		})
	}
}

func TestClusterRefusals(t *testing.T) {
	t.Chdir("../..")
	empty := t.TempDir()
	for _, c := range []struct {
		name string
		env  map[string]string
		text string
	}{
		{"no PostgreSQL", map[string]string{"KV_POSTGRES_BIN": empty}, "up: " + empty + " has no program postgres\n"},
		{"another database", map[string]string{"KV_DATABASE_URL": "sqlite:x.db"}, "up: KV_DATABASE_URL is set, but --cluster runs a database of its own; unset it\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			dir := filepath.Join(t.TempDir(), "data")
			if got := up.Run(t.Context(), []string{"--cluster", dir}, env(c.env), &out); got != 1 || out.String() != c.text {
				t.Errorf("exit code %d, want 1; output:\n%s", got, out.String())
			}
			if _, err := os.Stat(dir); err == nil {
				t.Error("files were made")
			}
		})
	}
}
