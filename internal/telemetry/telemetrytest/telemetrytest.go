// Package telemetrytest helps tests to read the log and the spans of a program.
package telemetrytest

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A Journal is a log that can be read while it is written.
type Journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *Journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// String returns what was written so far.
func (j *Journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// A Span is a span that a Collector has received.
type Span struct {
	Service, Name     string
	Trace, ID, Parent string // hexadecimal; Parent is "" for the first span of a trace
	Kind              trace.Span_SpanKind
	Attributes        map[string]string
	Links             []string // ids of spans
	Failed            bool
}

// A Collector receives spans as OTLP over HTTP.
type Collector struct {
	URL string // for OTEL_EXPORTER_OTLP_ENDPOINT

	mu    sync.Mutex
	spans []Span
	err   error
}

// NewCollector starts a Collector that ends with the test. The test fails if the Collector
// cannot read what it receives.
func NewCollector(t *testing.T) *Collector {
	t.Helper()
	c := &Collector{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.receive(r); err != nil {
			c.mu.Lock()
			c.err = err
			c.mu.Unlock()
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	c.URL = server.URL
	t.Cleanup(func() {
		server.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.err != nil {
			t.Error(c.err)
		}
	})
	return c
}

func (c *Collector) receive(r *http.Request) error {
	if r.URL.Path != "/v1/traces" {
		return fmt.Errorf("spans for %s", r.URL.Path)
	}
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
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range request.ResourceSpans {
		service := ""
		for _, attribute := range resource.Resource.Attributes {
			if attribute.Key == "service.name" {
				service = attribute.Value.GetStringValue()
			}
		}
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				c.spans = append(c.spans, readSpan(service, span))
			}
		}
	}
	return nil
}

func readSpan(service string, span *trace.Span) Span {
	s := Span{
		Service: service, Name: span.Name, Kind: span.Kind, Attributes: map[string]string{},
		Trace: hex.EncodeToString(span.TraceId), ID: hex.EncodeToString(span.SpanId),
		Parent: hex.EncodeToString(span.ParentSpanId),
		Failed: span.Status.GetCode() == trace.Status_STATUS_CODE_ERROR,
	}
	for _, attribute := range span.Attributes {
		value := attribute.Value.GetStringValue()
		if value == "" {
			value = strconv.FormatInt(attribute.Value.GetIntValue(), 10)
		}
		s.Attributes[attribute.Key] = value
	}
	for _, link := range span.Links {
		s.Links = append(s.Links, hex.EncodeToString(link.SpanId))
	}
	return s
}

// Spans returns the spans received so far.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Span(nil), c.spans...)
}
