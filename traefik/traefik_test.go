package traefik_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// These tests run Traefik alone, in front of a fake gateway, to see what arrives there.

// newTraefikFor starts Traefik in front of a fake gateway, which also answers Traefik's health
// check.
func newTraefikFor(t *testing.T, gateway http.HandlerFunc, env ...string) *process {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			gateway(w, r)
		}
	}))
	t.Cleanup(server.Close)
	traefik := newTraefik(t, append([]string{"KV_GATEWAY_URL=" + server.URL}, env...)...)
	traefik.start(t)
	t.Cleanup(func() { traefik.kill(t) }) // before the server, which waits for connections when it closes
	eventually(t, "Traefik has its routes", func() error {
		answer, err := tryRequest(webAddress, http.MethodHead, "/", nil, "")
		if err == nil && answer.status == http.StatusNotFound { // a fake gateway never answers 404 here
			err = errors.New("it knows no route")
		}
		return err
	})
	return traefik
}

// The gateway gets a target that decodes to the same path, and the same query.
func TestTargetsAreForwardedUnchanged(t *testing.T) {
	newTraefikFor(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q %s", r.URL.Path, r.URL.RawQuery)
	})
	for _, named := range uglyKeys {
		for _, spelling := range named.spellings {
			if got, want := get(t, "/put/"+spelling).body, fmt.Sprintf("%q ", "/put/"+named.key); got != want {
				t.Errorf("%q arrives as %s, want %s", spelling, got, want)
			}
		}
	}
	for path, want := range map[string]string{"%00": "\x00", "%FF": "\xff", "%7F": "\x7f", "": ""} {
		if got, want := get(t, "/put/"+path).body, fmt.Sprintf("%q ", "/put/"+want); got != want {
			t.Errorf("%q arrives as %s, want %s", path, got, want)
		}
	}
	for query, want := range map[string]string{
		"version=1":                      "version=1",
		"version=1;x":                    "version=1%3Bx", // the same text; for some readers a bare ; would end the parameter
		"a=%zz&b=%2F+c&&=":               "a=%zz&b=%2F+c&&=",
		"at=2026-01-01T00:00:00%2B01:00": "at=2026-01-01T00:00:00%2B01:00",
	} {
		if got, want := get(t, "/get/k?"+query).body, `"/get/k" `+want; got != want {
			t.Errorf("?%s arrives as %s, want %s", query, got, want)
		}
	}
}

// Each event is written only after the previous one has arrived, so the test fails if an event is
// delayed anywhere.
func TestStreamsAreNotHeldBack(t *testing.T) {
	for _, kind := range []string{"text/event-stream", "application/octet-stream"} {
		t.Run(kind, func(t *testing.T) {
			const events = 20
			arrived := make(chan struct{})
			newTraefikFor(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/watch" {
					return
				}
				w.Header().Set("Content-Type", kind)
				for i := range events {
					fmt.Fprintf(w, "event %d\n", i)
					_ = http.NewResponseController(w).Flush()
					select {
					case <-arrived:
					case <-r.Context().Done():
						return
					}
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+webAddress+"/watch", nil)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			lines := bufio.NewReader(answer.Body)
			for i := range events {
				if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("event %d\n", i) {
					t.Fatalf("event %d is %q, %v", i, line, err)
				}
				arrived <- struct{}{}
			}
		})
	}
}

// With many clients at once, all are answered, and their connections to the gateway are reused.
func TestManyClientsAtOnce(t *testing.T) {
	const clients, rounds = 1500, 3
	var arrived, dialed atomic.Int32
	var gates [rounds]chan struct{} // closed when all requests of the round have arrived
	for i := range gates {
		gates[i] = make(chan struct{})
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/get/k" {
			return
		}
		n := int(arrived.Add(1)) - 1
		gate := gates[n/clients]
		if n%clients == clients-1 {
			close(gate)
		}
		select {
		case <-gate:
		case <-r.Context().Done():
		}
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			dialed.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	newTraefikFor(t, http.NotFound, "KV_GATEWAY_URL="+server.URL)
	var answered atomic.Int32
	var group sync.WaitGroup
	for range clients {
		connection := dialWeb(t)
		group.Go(func() {
			reader := bufio.NewReader(connection)
			for range rounds {
				fmt.Fprint(connection, "GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n")
				answer, err := http.ReadResponse(reader, nil)
				if err != nil || answer.StatusCode != http.StatusOK {
					t.Errorf("%v, %v", answer, err)
					return
				}
				_ = answer.Body.Close()
				answered.Add(1)
			}
		})
	}
	group.Wait()
	if answered.Load() != clients*rounds || dialed.Load() > clients+clients/10 {
		t.Errorf("%d requests were answered, over %d connections", answered.Load(), dialed.Load())
	}
}

// A write whose connection breaks may have been made, so it is not sent again.
func TestWritesAreNotSentTwice(t *testing.T) {
	var sent atomic.Int32
	newTraefikFor(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/put/") {
			sent.Add(1)
			panic(http.ErrAbortHandler) // closes the connection
		}
	})
	for i, method := range []string{http.MethodPut, http.MethodPost} {
		get(t, "/warm") // leaves an idle connection, on which net/http would retry
		request(t, webAddress, method, "/put/k", nil, `{"value":1}`).wantStatus(t, http.StatusBadGateway)
		if got := int(sent.Load()); got != i+1 {
			t.Errorf("%s: the gateway has got %d writes, want %d", method, got, i+1)
		}
	}
}

// Go's HTTP transport in Traefik would resend a request with one of these headers, if it has no
// body and its reused connection breaks. So Traefik removes the headers.
func TestIdempotencyKeysSendNothingTwice(t *testing.T) {
	var sent, keys atomic.Int32
	newTraefikFor(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" || r.URL.Path == "/warm" {
			return
		}
		sent.Add(1)
		if len(r.Header["Idempotency-Key"])+len(r.Header["X-Idempotency-Key"]) > 0 {
			keys.Add(1)
		}
		panic(http.ErrAbortHandler) // closes the connection
	})
	want := 0
	for _, method := range []string{http.MethodPost, http.MethodDelete, http.MethodPatch} {
		for _, header := range []http.Header{
			{"Idempotency-Key": {"1"}}, {"X-Idempotency-Key": {"1"}}, {"idempotency-key": {""}}, {"Idempotency-Key": {"1"}, "X-Idempotency-Key": {"2"}},
		} {
			for _, target := range []string{"/delete/k", "/metrics"} {
				get(t, "/warm").wantStatus(t, http.StatusOK) // leaves an idle connection
				request(t, webAddress, method, target, header, "").wantStatus(t, http.StatusBadGateway)
				want++
			}
		}
	}
	if got := int(sent.Load()); got != want {
		t.Errorf("the gateway has got %d writes, want %d", got, want)
	}
	if got := keys.Load(); got != 0 {
		t.Errorf("%d of them had such a header", got)
	}
}

func TestHeaders(t *testing.T) {
	const policy = "sandbox; default-src 'none'"
	arrived := make(chan http.Header, 1)
	traefik := newTraefikFor(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/get/k":
			w.Header().Set("Content-Security-Policy", policy)
			w.Header().Set("X-Frame-Options", "DENY")
			w.Header().Set("X-Request-Id", "of-the-answer")
			arrived <- r.Header.Clone()
		case "/get/none":
			w.Header().Set("X-Request-Id", "of-the-answer")
			w.WriteHeader(http.StatusNotFound)
		}
	}, "KV_ACCESS_LOG=true")
	answer := request(t, webAddress, http.MethodGet, "/get/k", http.Header{
		"X-Request-Id":    {"of-the-caller"},
		"Authorization":   {"Bearer secret-1"},
		"Cookie":          {"session=secret-2"},
		"X-Api-Key":       {"secret-3"},
		"X-Forwarded-For": {"203.0.113.9"}, "X-Real-Ip": {"203.0.113.9"}, "X-Forwarded-Host": {"evil.example"},
	}, "").wantStatus(t, http.StatusOK)

	t.Run("of the answer", func(t *testing.T) {
		for name, want := range map[string]string{
			"Content-Security-Policy": policy, "X-Frame-Options": "DENY", "X-Request-Id": "of-the-answer", "Server": "",
		} {
			if got := answer.header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	})
	t.Run("of the request", func(t *testing.T) {
		got := <-arrived
		for name, want := range map[string]string{
			"X-Request-Id": "of-the-caller", "Authorization": "Bearer secret-1",
			"X-Forwarded-For": "127.0.0.1", "X-Real-Ip": "127.0.0.1", "X-Forwarded-Host": webAddress,
		} {
			if !slices.Equal(got[name], []string{want}) {
				t.Errorf("%s: %q, want %q", name, got[name], want)
			}
		}
	})
	t.Run("in the access log", func(t *testing.T) {
		failing := http.Header{"X-Request-Id": {"of-a-failure"}, "Authorization": {"Bearer secret-1"}, "Cookie": {"session=secret-2"}}
		request(t, webAddress, http.MethodGet, "/get/none", failing, "").wantStatus(t, http.StatusNotFound)
		eventually(t, "the request that failed is logged", func() error {
			if len(traefik.log.lines("of-a-failure")) == 0 {
				return errors.New("no such line")
			}
			return nil
		})
		line := traefik.log.lines("of-a-failure")[0]
		for _, want := range []string{`"RequestMethod":"GET"`, `"DownstreamStatus":404`, `"downstream_X-Request-Id":"of-the-answer"`} {
			if !strings.Contains(line, want) {
				t.Errorf("%s is not in %s", want, line)
			}
		}
		if lines := traefik.log.lines("/get/none"); len(lines) > 0 {
			t.Errorf("the path is logged: %v", lines)
		}
		if lines := traefik.log.lines("of-the-caller"); len(lines) > 0 {
			t.Errorf("a quick success is logged: %v", lines)
		}
		if secrets := traefik.log.lines("secret-"); len(secrets) > 0 {
			t.Errorf("a secret is in the log: %v", secrets)
		}
	})
}

// By default, Traefik's log has no requests, and no warnings about missing settings.
func TestNoAccessLog(t *testing.T) {
	traefik := newTraefikFor(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	for range 10 {
		get(t, "/get/none").wantStatus(t, http.StatusTeapot)
	}
	traefik.stop(t)
	for _, unwanted := range []string{"DownstreamStatus", "aliasHeadersStrategy", `"level":"error"`} {
		if lines := traefik.log.lines(unwanted); len(lines) > 0 {
			t.Errorf("the log has %s", lines[0])
		}
	}
}

// Every answer of the service has the headers for browsers.
func TestHeadersForBrowsers(t *testing.T) {
	newStack(t)
	put(t, "k", "1").wantStatus(t, http.StatusOK)
	for _, target := range []string{"/get/k", "/get/k?raw=true", "/get/none", "/docs/index.html", "/health", "/metrics", "/nothing"} {
		answer := get(t, target)
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Strict-Transport-Security": "",
			"Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
		} {
			if got := strings.Join(answer.header.Values(name), "|"); got != want {
				t.Errorf("%s: %s: %q, want %q", target, name, got, want)
			}
		}
	}
}

// KV_GATEWAY_URL may list several gateways.
func TestSeveralGatewaysShareTheLoad(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "other") }))
	t.Cleanup(other.Close)
	one := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "one") }))
	t.Cleanup(one.Close)
	newTraefikFor(t, http.NotFound, "KV_GATEWAY_URL="+one.URL+", "+other.URL)
	seen := map[string]bool{}
	for range 4 {
		seen[get(t, "/get/k").body] = true
	}
	if !seen["one"] || !seen["other"] {
		t.Errorf("answers of %v", seen)
	}
}

func TestHeaderSize(t *testing.T) {
	newTraefikFor(t, func(http.ResponseWriter, *http.Request) {})
	header := http.Header{"X-Large": {strings.Repeat("x", 64<<10)}}
	request(t, webAddress, http.MethodGet, "/", header, "").wantStatus(t, http.StatusRequestHeaderFieldsTooLarge)
}

// The container's health check runs "traefik healthcheck".
func TestTraefikHealthcheck(t *testing.T) {
	traefik := newTraefikFor(t, func(http.ResponseWriter, *http.Request) {})
	check := func() int {
		p := newProcess(t, "healthcheck", programs.traefik, []string{"healthcheck", "--configFile=traefik/traefik.yml"}, nil)
		p.start(t)
		return p.wait(t)
	}
	if code := check(); code != 0 {
		t.Errorf("exit code %d while Traefik runs", code)
	}
	traefik.stop(t)
	if code := check(); code == 0 {
		t.Error("exit code 0 while Traefik does not run")
	}
}

// A stream does not end by itself: Traefik ends it after the grace time, and exits with 0.
func TestTraefikStopsInSpiteOfStreams(t *testing.T) {
	entered := make(chan struct{})
	traefik := newTraefikFor(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/watch" {
			_ = http.NewResponseController(w).Flush()
			close(entered)
			<-r.Context().Done()
		}
	})
	go func() { _, _ = tryRequest(webAddress, http.MethodGet, "/watch", nil, "") }()
	<-entered
	started := time.Now()
	traefik.signal(t, syscall.SIGTERM)
	if code := traefik.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(started); took > 9*time.Second {
		t.Errorf("it took %s; a container is killed after 10 s", took)
	}
}
