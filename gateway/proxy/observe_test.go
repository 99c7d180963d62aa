package proxy_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"kvstore/gateway/proxy"
	"kvstore/internal/telemetry"
	"kvstore/internal/telemetry/telemetrytest"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// traced returns a gateway, and a recorder of its spans.
func traced(t *testing.T, backend string) (*gateway, *tracetest.SpanRecorder) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	g := start(t, func(cfg *proxy.Config) { cfg.Tracer = provider.Tracer("test") }, backend)
	return g, spans
}

// echoTrace answers with the trace headers that it got.
func echoTrace(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, strings.Join(r.Header["Traceparent"], "|")+" "+strings.Join(r.Header["Tracestate"], "|"))
}

// Without a tracer, the headers of traces are forwarded as they are.
func TestUntraced(t *testing.T) {
	g := start(t, nil, newBackend(t, "s", echoTrace).URL)
	_, body := g.send(t, "GET /get/k HTTP/1.1\r\nHost: h\r\ntraceparent: no trace\r\nTraceParent: two\r\nTracestate: a=1\r\n\r\n")
	if body != "no trace|two a=1" {
		t.Errorf("got %q", body)
	}
}

// Each path of the OpenAPI document that is forwarded has a label of its own.
func TestRoutesAreThoseOfTheDocument(t *testing.T) {
	text, err := os.ReadFile("../../backend/docs/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var document struct{ Paths map[string]any }
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	labels := proxy.Routes()
	for path := range document.Paths {
		hidden := path == "/readyz" || path == "/db/compact"
		if path == "/docs/{file}" {
			path = "/docs/{any}"
		}
		if slices.Contains(labels, path) == hidden {
			t.Errorf("%s is a label: %t", path, !hidden)
		}
	}
}

func TestTraced(t *testing.T) {
	for name, c := range map[string]struct {
		headers      string
		trace        string // "" for a new one
		state        string
		serverParent string
		sampled      bool
	}{
		"of the client": {"TraceParent: " + parent + "\r\nTracestate: a=1\r\n", parent[3:35], "a=1", parent[36:52], true},
		"not sampled":   {"traceparent: " + parent[:53] + "00\r\n", parent[3:35], "", "", false},
		"absent":        {"", "", "", "0000000000000000", true},
		"malformed":     {"traceparent: 00-x\r\ntracestate: a=1\r\n", "", "", "0000000000000000", true},
		"twice":         {"traceparent: " + parent + "\r\ntraceparent: " + parent + "\r\n", "", "", "0000000000000000", true},
		"for one hop":   {"Connection: traceparent\r\ntraceparent: " + parent + "\r\n", "", "", "0000000000000000", true},
	} {
		t.Run(name, func(t *testing.T) {
			g, recorder := traced(t, newBackend(t, "s", echoTrace).URL)
			_, body := g.send(t, "GET /get/secret HTTP/1.1\r\nHost: h\r\nX-Request-Id: id\r\n"+c.headers+"\r\n")
			got, state, _ := strings.Cut(body, " ")
			fields := strings.Split(got, "-")
			if len(fields) != 4 || state != c.state || c.trace != "" && fields[1] != c.trace || fields[2] == parent[36:52] {
				t.Fatalf("the backend got %q", body)
			}
			if !c.sampled {
				if fields[3] != "00" || len(recorder.Ended()) > 0 {
					t.Errorf("%q, %d spans", body, len(recorder.Ended()))
				}
				return
			}
			eventually(t, "two spans have ended", func() bool { return len(recorder.Ended()) == 2 })
			client, server := recorder.Ended()[0], recorder.Ended()[1]
			if client.SpanKind() != trace.SpanKindClient || server.SpanKind() != trace.SpanKindServer || server.Name() != "GET /get/{key}" {
				t.Errorf("spans %s %s, %s %s", client.SpanKind(), client.Name(), server.SpanKind(), server.Name())
			}
			if id := client.SpanContext().SpanID().String(); id != fields[2] || client.Parent().SpanID() != server.SpanContext().SpanID() {
				t.Errorf("the backend's parent is %s, the client's span %s, its parent %s", fields[2], id, client.Parent().SpanID())
			}
			if server.SpanContext().TraceID().String() != fields[1] || server.Parent().SpanID().String() != c.serverParent {
				t.Errorf("server span %s of %s", server.SpanContext().TraceID(), server.Parent().SpanID())
			}
			for _, span := range recorder.Ended() {
				for _, attribute := range span.Attributes() {
					if strings.Contains(attribute.Value.String(), "secret") {
						t.Errorf("the key is in %s", attribute.Key)
					}
				}
			}
		})
	}
}

// The log message of a request without an answer names its trace.
func TestTraceOfAFailure(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	log := &telemetrytest.Journal{}
	logger, err := telemetry.NewLogger(log, "info", "json")
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, func(cfg *proxy.Config) {
		cfg.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
		cfg.Logger = logger
	}, closedAddress(t))
	response, body := g.send(t, "GET /get/k HTTP/1.1\r\nHost: h\r\ntraceparent: "+parent+"\r\nX-Request-Id: the-id\r\n\r\n")
	wantProblem(t, response, body, http.StatusServiceUnavailable, "backend_unavailable", "")
	eventually(t, "two spans have ended", func() bool { return len(spans.Ended()) == 2 })
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "no answer from backend") &&
			(!strings.Contains(line, `"trace_id":"`+parent[3:35]+`"`) || !strings.Contains(line, `"request_id":"the-id"`)) {
			t.Errorf("line %s", line)
		}
	}
	if spans.Ended()[1].Status().Code.String() != "Error" {
		t.Errorf("status %v", spans.Ended()[1].Status())
	}
}

// Malformed requests are counted too, and open streams.
func TestRequestsAreCounted(t *testing.T) {
	address := &telemetrytest.Journal{}
	m, err := telemetry.ServeMetrics(t.Context(), "test", "127.0.0.1:0", slog.New(slog.NewTextHandler(address, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	release := make(chan struct{})
	backend := newBackend(t, "s", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/watch" {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-release
		}
	})
	defer close(release)
	g := start(t, func(cfg *proxy.Config) {
		cfg.Requests, cfg.MaxWatchersPerClient = m.Requests("kv_gateway", proxy.Routes()), 1
	}, backend.URL)
	for range 3 {
		get(t, g.URL+"/get/a/b")
	}
	g.send(t, "PUT /put/k HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	g.send(t, "BREW /pot HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	g.send(t, "nonsense\r\n\r\n")
	get(t, g.URL+"/readyz")
	conn, r := g.dial(t)
	_, _ = io.WriteString(conn, "GET /watch?prefix=a HTTP/1.1\r\nHost: h\r\n\r\n")
	if _, err := http.ReadResponse(r, nil); err != nil {
		t.Fatal(err)
	}
	g.send(t, "GET /watch HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	_, rest, _ := strings.Cut(address.String(), "address=")
	where, _, _ := strings.Cut(rest, " ")
	var body string
	for _, want := range []string{
		`kv_gateway_requests_total{method="GET",route="/get/{key}",status="200"} 3`,
		`kv_gateway_requests_total{method="PUT",route="/put/{key}",status="200"} 1`,
		`kv_gateway_requests_total{method="other",route="other",status="200"} 1`,
		`kv_gateway_requests_total{method="other",route="malformed",status="400"} 1`,
		`kv_gateway_requests_total{method="GET",route="other",status="404"} 1`,
		`kv_gateway_request_duration_seconds_count{route="/get/{key}"} 3`,
		`kv_gateway_requests_in_flight 1`,
		`kv_gateway_requests_refused_total 1`,
		`kv_gateway_requests_total{method="GET",route="/watch",status="429"} 1`,
	} {
		eventually(t, want, func() bool {
			_, body = get(t, "http://"+where+"/metrics")
			return strings.Contains(body, want)
		})
	}
	stats := g.proxy.Stats()
	if stats.Streams != 1 || stats.Clients < 1 || len(stats.Backends) != 1 {
		t.Fatalf("stats %+v", stats)
	}
	b := stats.Backends[0]
	if !b.Healthy || b.Open < 1 || b.Dialed < 1 || b.DialsFailed != 0 || b.Address != strings.TrimPrefix(backend.URL, "http://") {
		t.Errorf("backend %+v", b)
	}
	reset(t, conn)
	eventually(t, "the stream has ended", func() bool {
		s := g.proxy.Stats()
		return s.Streams == 0 && s.Backends[0].Open == s.Backends[0].Idle
	})
}
