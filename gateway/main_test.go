package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	main "kvstore/gateway"
	"kvstore/internal/telemetry"
	"kvstore/internal/telemetry/telemetrytest"
)

const patience = 10 * time.Second

// If this variable is set, the test binary is the gateway.
const asGateway = "TEST_AS_GATEWAY"

func TestMain(m *testing.M) {
	if os.Getenv(asGateway) != "" {
		main.Main()
	}
	goleak.VerifyTestMain(m)
}

// A journal is a log that tests can query.
type journal struct{ telemetrytest.Journal }

// address waits until the log says where the gateway listens.
func (j *journal) address(t *testing.T) string {
	t.Helper()
	return j.addressOf(t, "listening")
}

// addressOf waits until the log has a message with an address.
func (j *journal) addressOf(t *testing.T, message string) string {
	t.Helper()
	deadline := time.After(patience)
	for {
		for line := range strings.Lines(j.String()) {
			var entry struct{ Msg, Address string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == message {
				return entry.Address
			}
		}
		select {
		case <-deadline:
			t.Fatalf("does not say %q: %s", message, j)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func env(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

func backend(t *testing.T, store string, handle http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			fmt.Fprintf(w, `{"status":"ok","store":%q}`, store)
			return
		}
		handle(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	return ask(t, http.MethodGet, url, "")
}

// ask sends a request on a connection of its own. The header has names and values.
func ask(t *testing.T, method, url, body string, header ...string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestRun(t *testing.T) {
	url := backend(t, "s", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "got ", r.RequestURI) })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log, ended := &journal{}, make(chan error, 1)
	go func() {
		ended <- main.Run(ctx, []string{"--gateway-addr=127.0.0.1:0"}, env(map[string]string{"KV_BACKENDS": url, "KV_DRAIN_DELAY": "1ms"}), log)
	}()
	address := log.address(t)
	if status, body := get(t, "http://"+address+"/get/a//b"); status != http.StatusOK || body != "got /get/a//b" {
		t.Errorf("%d %s", status, body)
	}
	if err := main.Run(t.Context(), []string{"healthcheck"}, env(map[string]string{"KV_GATEWAY_ADDR": address}), io.Discard); err != nil {
		t.Errorf("healthcheck: %v", err)
	}
	// The client of the healthcheck is http.DefaultClient.
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	err := main.Run(t.Context(), []string{"healthcheck", "--gateway-addr", address}, env(nil), io.Discard)
	if err == nil || telemetry.ExitCode(err) != 1 {
		t.Errorf("healthcheck of nothing: %v", err)
	}
}

func TestRunPrints(t *testing.T) {
	for flag, want := range map[string][]string{
		"--version": {"gateway dev (", ")\n"},
		"--help": {"KV_GATEWAY_ADDR", "127.0.0.1:8001", "KV_BACKENDS", "http://127.0.0.1:8080", "KV_BACKEND_TIMEOUT", "30s", "KV_MAX_LAG",
			"KV_MAX_VALUE_BYTES", "1MiB", "KV_MAX_CONNECTIONS", "KV_RATE_LIMIT", "KV_RATE_BURST", "KV_MAX_REQUESTS_PER_CLIENT", "KV_MAX_WATCHERS_PER_CLIENT", "KV_DRAIN_DELAY", "KV_LOG_LEVEL", "KV_LOG_FORMAT", "healthcheck"},
	} {
		var stdout bytes.Buffer
		// Mistakes do not stand in the way.
		if err := main.Run(t.Context(), []string{flag}, env(map[string]string{"KV_BACKENDS": "x"}), &stdout); err != nil {
			t.Errorf("%s: %v", flag, err)
		}
		for _, text := range want {
			if !strings.Contains(stdout.String(), text) {
				t.Errorf("%s: no %q in %s", flag, text, &stdout)
			}
		}
	}
}

func TestMistakesAreReportedTogether(t *testing.T) {
	err := main.Run(t.Context(), []string{"--backend-timeout=5", "--nope"}, env(map[string]string{
		"KV_GATEWAY_ADDR":    "localhost",
		"KV_BACKENDS":        "http://a:1/x,https://b:2, http://c:3,http://C:3,http://d,,http://u@e:4,http://f:0,http://g:5?q",
		"KV_MAX_VALUE_BYTES": "0", "KV_LOG_LEVEL": "loud", "KV_LOG_FORMAT": "xml",
	}), io.Discard)
	if telemetry.ExitCode(err) != 2 {
		t.Fatal(err)
	}
	const only = " must be http://host:port and nothing more: no path, query or user; "
	const port = " must have a port from 1 to 65535, as http://host:port has"
	want := []string{
		"the configuration has mistakes:",
		"  unknown flag: --nope",
		`  KV_GATEWAY_ADDR="localhost": must be host:port`,
		`  KV_BACKENDS="http://a:1/x,https://b:2, http://c:3,http://C:3,http://d,,http://u@e:4,http://f:0,http://g:5?q": "http://a:1/x"` + only +
			`"https://b:2" must be http://host:port; "http://C:3" is given twice; "http://d"` + port + `; "" must be http://host:port; ` +
			`"http://u@e:4"` + only + `"http://f:0"` + port + `; "http://g:5?q"` + strings.TrimSuffix(only, "; "),
		`  --backend-timeout="5": must be a duration, such as 90s or 1h30m, from 10ms to 1h0m0s`,
		`  KV_MAX_VALUE_BYTES="0": must be a number of bytes, such as 450KB or 64MiB, from 1 B to 256 MiB`,
		`  KV_LOG_LEVEL="loud": must be one of debug, info, warn, error`,
		`  KV_LOG_FORMAT="xml": must be one of json, text`,
		"--help lists the settings",
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Error(diff)
	}
}

func TestMistakes(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"argument":    {[]string{"serve", "now"}, "unknown argument \"serve\"\n  unknown argument \"now\""},
		"after":       {[]string{"healthcheck", "now"}, `unknown argument "now"`},
		"own port":    {[]string{"--gateway-addr=:8001", "--backends=http://LOCALHOST:8001"}, "http://localhost:8001 is the gateway's own address, it cannot be a backend"},
		"own name":    {[]string{"--gateway-addr=127.0.0.1:8001", "--backends=http://localhost:8001"}, "http://localhost:8001 is the gateway's own address, it cannot be a backend"},
		"nowhere":     {[]string{"--gateway-addr=127.0.0.1:8001", "--backends=http://0.0.0.0:8001"}, "http://0.0.0.0:8001 is the gateway's own address, it cannot be a backend"},
		"own address": {[]string{"--gateway-addr=h:1", "--backends=http://g:1,http://h:1"}, "http://h:1 is the gateway's own address, it cannot be a backend"},
		"metrics":     {[]string{"--gateway-addr=127.0.0.1:1", "--metrics-addr=:1"}, `KV_METRICS_ADDR=":1": is the address of KV_GATEWAY_ADDR`},
		"a backend":   {[]string{"--metrics-addr=h:1", "--backends=http://h:1"}, "http://h:1 is the address of the gateway's metrics, it cannot be a backend"},
		"port":        {[]string{"--gateway-addr=h:65536"}, "must end in a port from 0 to 65535"},
		"no lag":      {[]string{"--max-lag=0"}, `--max-lag="0": must be a duration, such as 90s or 1h30m, from 10ms to 1h0m0s`},
		"negative":    {[]string{"--max-lag=-1s"}, `--max-lag="-1s": must be a duration`},
		"no unit":     {[]string{"--max-lag=5"}, `--max-lag="5": must be a duration`},
		"no duration": {[]string{"--max-lag="}, `--max-lag="": must be a duration`},
	} {
		t.Run(name, func(t *testing.T) {
			err := main.Run(t.Context(), test.args, env(nil), io.Discard)
			if telemetry.ExitCode(err) != 2 || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestRefusesToStart(t *testing.T) {
	silent := func(http.ResponseWriter, *http.Request) {}
	t.Run("in front of different stores", func(t *testing.T) {
		a, b := backend(t, "s1", silent), backend(t, "s2", silent)
		err := main.Run(t.Context(), []string{"--gateway-addr=127.0.0.1:0", "--backends", a + "," + b}, env(nil), io.Discard)
		want := "KV_BACKENDS names backends of different stores: " + a + " serves store s1, " + b + " serves store s2"
		if telemetry.ExitCode(err) != 1 || err.Error() != want {
			t.Errorf("got %v", err)
		}
	})
	t.Run("where another listens", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		err = main.Run(t.Context(), []string{"--gateway-addr", listener.Addr().String(), "--backends", backend(t, "s", silent)}, env(nil), io.Discard)
		if telemetry.ExitCode(err) != 1 || !strings.Contains(err.Error(), "address already in use") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("when it is stopped already", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := main.Run(ctx, []string{"--gateway-addr=127.0.0.1:0"}, env(nil), io.Discard); err != nil {
			t.Error(err)
		}
	})
}

// process starts the gateway as a process of its own.
func process(t *testing.T, variables ...string) (*exec.Cmd, *journal) {
	t.Helper()
	return startProgram(t, os.Args[0], append(variables, asGateway+"=1")...)
}

// startProgram starts a program, which is killed when the test ends.
func startProgram(t *testing.T, program string, variables ...string) (*exec.Cmd, *journal) {
	t.Helper()
	command := exec.Command(program)
	command.Env = append(os.Environ(), variables...)
	log := &journal{}
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if t.Failed() {
			t.Log(log)
		}
	})
	return command, log
}

// On SIGTERM requests in flight are answered, streams are cut, and the exit code is 0.
func TestSignalDrains(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		arrived, finish := make(chan string, 2), make(chan struct{})
		url := backend(t, "s", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/watch" {
				fmt.Fprint(w, ": hello\n\n")
				_ = http.NewResponseController(w).Flush()
			}
			arrived <- r.URL.Path
			select {
			case <-finish:
			case <-r.Context().Done():
			}
			fmt.Fprint(w, "done")
		})
		gateway, log := process(t, "KV_GATEWAY_ADDR=127.0.0.1:0", "KV_BACKENDS="+url)
		base := "http://" + log.address(t)
		stream, err := http.Get(base + "/watch")
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Body.Close()
		answer := make(chan string, 1)
		go func() {
			_, body := get(t, base+"/get/k")
			answer <- body
		}()
		<-arrived
		<-arrived
		if err := gateway.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(stream.Body); err == nil { // ends when the drain begins
			t.Error("the stream looks complete")
		}
		close(finish)
		if body := <-answer; body != "done" {
			t.Errorf("in flight: got %q", body)
		}
		if err := gateway.Wait(); err != nil {
			t.Errorf("%s: %v", signal, err)
		}
		if strings.Contains(log.String(), "WARN") {
			t.Error("noise in the log")
		}
	}
}

func TestExitCodeOfTheProcess(t *testing.T) {
	for variable, want := range map[string]int{"KV_BACKENDS=x": 2, "KV_GATEWAY_ADDR=192.0.2.1:1": 1} {
		gateway, log := process(t, variable)
		_ = gateway.Wait()
		if code := gateway.ProcessState.ExitCode(); code != want {
			t.Errorf("%s: %d", variable, code)
		}
		if !strings.Contains(log.String(), "gateway: ") {
			t.Errorf("%s: said %q", variable, log)
		}
	}
}
