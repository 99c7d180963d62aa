package main_test

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"kvstore/internal/telemetry/telemetrytest"
)

// metricsURL returns the URL of a program's metrics.
func metricsURL(t *testing.T, p *program) string {
	t.Helper()
	for line := range strings.Lines(p.log.String()) {
		var fields struct{ Msg, Address, Path string }
		if json.Unmarshal([]byte(line), &fields) == nil && fields.Msg == "metrics are served" {
			return "http://" + fields.Address
		}
	}
	t.Fatalf("the program serves no metrics:\n%s", p.log)
	return ""
}

// TestMetrics compares the metrics of a whole program with the requests that it got.
func TestMetrics(t *testing.T) {
	p := boot(t, map[string]string{
		"KV_DATABASE_URL": "sqlite:" + filepath.Join(t.TempDir(), "kv.db"), "KV_METRICS_ADDR": "127.0.0.1:0", "KV_CACHE_MAX_KEYS": "2",
	})
	for _, key := range []string{"a", "b", "c"} {
		p.request(t, "PUT", "/put/"+key, `{"value":1}`)
	}
	p.request(t, "GET", "/get/c", "")
	p.request(t, "GET", "/get/a", "")
	p.request(t, "GET", "/get/none", "")
	p.request(t, "DELETE", "/delete/c", "")
	p.request(t, "GET", "/nothing/here", "")
	p.request(t, "DELETE", "/get/a", "")
	if status, _ := p.request(t, "GET", "/metrics", ""); status != 404 {
		t.Errorf("the service's own address answers /metrics with %d", status)
	}
	scraped := *p
	scraped.url = metricsURL(t, p)
	var body string
	for _, want := range []string{
		`kv_http_requests_total{method="PUT",route="/put/{key}",status="200"} 3`,
		`kv_http_requests_total{method="GET",route="/get/{key}",status="200"} 2`,
		`kv_http_requests_total{method="GET",route="/get/{key}",status="404"} 1`,
		`kv_http_requests_total{method="DELETE",route="other",status="405"} 1`,
		`kv_http_requests_total{method="GET",route="other",status="404"} 2`,
		`kv_http_request_duration_seconds_count{route="/get/{key}"} 3`,
		`kv_http_requests_in_flight 0`,
		`kv_cache_hits_total 1`, `kv_cache_misses_total 2`, `kv_cache_evictions_total 2`, `kv_cache_max_keys 2`,
		`kv_versions_written_total{operation="put"} 3`, `kv_versions_written_total{operation="delete"} 1`,
		`kv_writer_batch_versions_sum 4`, `kv_writer_commit_duration_seconds_count 4`, `kv_writer_failed_batches_total 0`,
		`kv_writer_queue_length 0`, `kv_database_up 1`, `kv_database_keys 2`, `kv_database_versions 4`, `kv_database_revision 4`,
		`kv_watchers 0`, `kv_build_info{goversion="go1.`,
	} {
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(body, want); { // requests are counted after their answer
			if time.Now().After(deadline) {
				t.Errorf("no %s in\n%s", want, body)
				break
			}
			_, body = scraped.request(t, "GET", "/metrics", "")
		}
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	p.stop()
	if err := <-p.result; err != nil {
		t.Error(err)
	}
}

// TestTraces checks that a write makes one trace from the request to the commit, and that
// the program sends it before it ends.
func TestTraces(t *testing.T) {
	collector := telemetrytest.NewCollector(t)
	p := boot(t, map[string]string{
		"KV_DATABASE_URL": "sqlite:" + filepath.Join(t.TempDir(), "kv.db"), "OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "KV_LOG_LEVEL": "debug",
	})
	if status, body := p.request(t, "PUT", "/put/secret", `{"value":"hidden"}`); status != 200 {
		t.Fatal(status, body)
	}
	p.stop()
	if err := <-p.result; err != nil {
		t.Fatal(err)
	}
	spans := collector.Spans()
	byID := map[string]telemetrytest.Span{}
	for _, s := range spans {
		byID[s.ID] = s
	}
	path := ""
	for _, s := range spans {
		if s.Name == "COMMIT" {
			for ; s.ID != ""; s = byID[s.Parent] {
				path += s.Name + " < "
			}
		}
		for name, value := range s.Attributes {
			if strings.Contains(value, "secret") || strings.Contains(value, "hidden") {
				t.Errorf("%s of %s contains data", name, s.Name)
			}
		}
	}
	if path != "COMMIT < write transaction < PUT /put/{key} < " {
		t.Errorf("path %q of %+v", path, spans)
	}
	for line := range strings.Lines(p.log.String()) {
		if strings.Contains(line, `"msg":"request"`) && (!strings.Contains(line, `"trace_id"`) || !strings.Contains(line, `"request_id"`)) {
			t.Errorf("line %s", line)
		}
	}
}

// TestTransactionLinksItsRequests makes many concurrent writes. Each must lead to its
// transaction, as the parent of its span or by a link, and the transaction to each of them.
func TestTransactionLinksItsRequests(t *testing.T) {
	collector := telemetrytest.NewCollector(t)
	p := boot(t, map[string]string{
		"KV_DATABASE_URL": "sqlite:" + filepath.Join(t.TempDir(), "kv.db"), "OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL,
	})
	const writers, each = 16, 10
	var writing sync.WaitGroup
	for range writers {
		writing.Go(func() {
			for range each {
				if status, body := p.request(t, "PUT", "/put/k", `{"value":1}`); status != 200 {
					t.Error(status, body)
				}
			}
		})
	}
	writing.Wait()
	p.stop()
	if err := <-p.result; err != nil {
		t.Fatal(err)
	}
	requests := map[string]telemetrytest.Span{}
	var transactions []telemetrytest.Span
	for _, s := range collector.Spans() {
		switch s.Name {
		case "PUT /put/{key}":
			requests[s.ID] = s
		case "write transaction":
			transactions = append(transactions, s)
		}
	}
	if len(requests) != writers*each {
		t.Fatalf("%d requests, want %d", len(requests), writers*each)
	}
	reached := map[string]bool{}
	for _, transaction := range transactions {
		if n := strconv.Itoa(1 + len(transaction.Links)); transaction.Attributes["kv.transaction.requests"] != n {
			t.Errorf("a transaction of %s requests names %s", transaction.Attributes["kv.transaction.requests"], n)
		}
		reached[transaction.Parent] = true
		for _, id := range transaction.Links {
			reached[id] = true
			if links := requests[id].Links; len(links) != 1 || links[0] != transaction.ID {
				t.Errorf("a request of transaction %s has the links %v", transaction.ID, links)
			}
		}
	}
	for id := range requests {
		if !reached[id] {
			t.Errorf("no transaction names the request %s", id)
		}
	}
	t.Logf("%d requests in %d transactions", len(requests), len(transactions))
}

// TestUnreachableCollector checks that neither requests nor the program fail if the collector
// does not answer.
func TestUnreachableCollector(t *testing.T) {
	p := boot(t, map[string]string{
		"KV_DATABASE_URL": "sqlite:" + filepath.Join(t.TempDir(), "kv.db"), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
	})
	if status, body := p.request(t, "PUT", "/put/k", `{"value":1}`); status != 200 {
		t.Fatal(status, body)
	}
	p.stop()
	if err := <-p.result; err != nil {
		t.Error(err)
	}
	if !strings.Contains(p.log.String(), "tracing failed") {
		t.Errorf("the log does not say so:\n%s", p.log)
	}
}
