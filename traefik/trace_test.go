package traefik_test

import (
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A span is a received span, with ids in hexadecimal.
type span struct{ service, name, trace, id, parent string }

// spans holds the spans that a collector has received.
type spans struct {
	mu  sync.Mutex
	all []span
	err error
}

// newCollector starts a collector for OTLP over HTTP.
func newCollector(t *testing.T) (*spans, string) {
	t.Helper()
	s := &spans{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.receive(r); err != nil {
			s.mu.Lock()
			s.err = err
			s.mu.Unlock()
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(server.Close)
	return s, server.URL
}

func (s *spans) receive(r *http.Request) error {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			return err
		}
		body = unpacked
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var request collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(data, &request); err != nil {
		return fmt.Errorf("%s: %w", r.URL.Path, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range request.ResourceSpans {
		service := ""
		for _, attribute := range resource.Resource.Attributes {
			if attribute.Key == "service.name" {
				service = attribute.Value.GetStringValue()
			}
		}
		for _, scope := range resource.ScopeSpans {
			for _, sent := range scope.Spans {
				s.all = append(s.all, span{
					service, sent.Name, hex.EncodeToString(sent.TraceId), hex.EncodeToString(sent.SpanId), hex.EncodeToString(sent.ParentSpanId),
				})
			}
		}
	}
	return nil
}

// TestTrace checks that a PUT makes one trace through all three programs down to the commit, in
// the trace of the client. Each program sends its last spans when it stops.
func TestTrace(t *testing.T) {
	received, url := newCollector(t)
	launcher, _ := startLauncher(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+url)
	const client = "0af7651916cd43dd8448eb211c80319c"
	request, err := http.NewRequest(http.MethodPut, "http://"+webAddress+"/put/k", strings.NewReader(`{"value":1}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Traceparent", "00-"+client+"-b7ad6b7169203331-01")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatal(response.Status)
	}
	launcher.signal(t, syscall.SIGTERM)
	if code := launcher.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	received.mu.Lock()
	defer received.mu.Unlock()
	if received.err != nil {
		t.Fatal(received.err)
	}
	byID := map[string]span{}
	for _, s := range received.all {
		if s.trace == client {
			byID[s.id] = s
		}
	}
	var path []string
	for _, s := range byID {
		if s.name != "COMMIT" {
			continue
		}
		for ; s.id != ""; s = byID[s.parent] {
			path = append(path, s.service+": "+s.name)
			if _, ok := byID[s.parent]; !ok && s.parent != "b7ad6b7169203331" {
				t.Errorf("the parent of %+v is missing", s)
			}
		}
	}
	slices.Reverse(path)
	t.Log(strings.Join(path, "\n"))
	if len(path) < 6 || !strings.HasPrefix(path[0], "traefik: ") {
		t.Fatalf("path %q of %+v", path, received.all)
	}
	want := []string{"gateway: PUT /put/{key}", "gateway: PUT", "backend: PUT /put/{key}", "backend: write transaction", "backend: COMMIT"}
	if got := path[len(path)-len(want):]; !slices.Equal(got, want) {
		t.Errorf("path %q, want it to end in %q", path, want)
	}
}

// TestMetricsOfBoth checks that the launcher gives each program its own address for metrics, and
// that metrics are not public.
func TestMetricsOfBoth(t *testing.T) {
	first := freePorts(t)
	startLauncher(t, fmt.Sprintf("KV_METRICS_ADDR=127.0.0.1:%d", first))
	put(t, "k", "1").wantStatus(t, http.StatusOK)
	for port, want := range map[int]string{
		first:     `kv_http_requests_total{method="PUT",route="/put/{key}",status="200"} 1`,
		first + 1: `kv_gateway_requests_total{method="PUT",route="/put/{key}",status="200"} 1`,
	} {
		eventually(t, want, func() error {
			response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
			if err != nil {
				return err
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err == nil && !strings.Contains(string(body), want) {
				err = fmt.Errorf("not in %.2000s", body)
			}
			return err
		})
	}
	response, err := tryRequest(webAddress, http.MethodGet, "/metrics", nil, "")
	if err != nil || response.status != http.StatusNotFound {
		t.Errorf("/metrics through Traefik: %+v, %v", response, err)
	}
}

// freePorts returns the first of two adjacent free ports.
func freePorts(t *testing.T) int {
	t.Helper()
	for range 50 {
		first, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := first.Addr().(*net.TCPAddr).Port
		second, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		first.Close()
		if err == nil {
			second.Close()
			return port
		}
	}
	t.Fatal("no two free ports")
	return 0
}
