package api_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"kvstore/backend/api"
	"kvstore/backend/cache"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/kv"
	"kvstore/backend/store"
	"kvstore/internal/telemetry"
)

// BenchmarkGetHit measures a GET of a cached key without the connection: alone, and with
// metrics and traces.
func BenchmarkGetHit(b *testing.B) {
	b.Run("plain", func(b *testing.B) { benchmarkGetHit(b, api.Config{}) })
	b.Run("metrics", func(b *testing.B) {
		m, err := telemetry.ServeMetrics(b.Context(), "test", "127.0.0.1:0", slog.New(slog.DiscardHandler))
		if err != nil {
			b.Fatal(err)
		}
		defer m.Close()
		benchmarkGetHit(b, api.Config{Metrics: m.Requests("kv_http", api.Routes())})
	})
	b.Run("traces", func(b *testing.B) {
		benchmarkGetHit(b, api.Config{Tracer: sdktrace.NewTracerProvider().Tracer("test")})
	})
}

func benchmarkGetHit(b *testing.B, cfg api.Config) {
	b.Helper()
	db := databasetest.Open(b, databasetest.URL(b))
	entries, err := cache.New(cache.Config[kv.Entry]{MaxKeys: 100, MaxBytes: 1 << 20, Size: func(_ string, e kv.Entry) int64 { return e.Size() }})
	if err != nil {
		b.Fatal(err)
	}
	s, err := store.New(store.Config{Database: db, Cache: entries, MaxValueBytes: maxValueBytes, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close(); entries.Close() })
	cfg.Store, cfg.Logger = s, slog.New(slog.DiscardHandler)
	handler := api.New(cfg)
	put := httptest.NewRecorder()
	handler.ServeHTTP(put, httptest.NewRequest(http.MethodPut, "/put/app/db/host", strings.NewReader(`{"value":"`+strings.Repeat("v", 98)+`"}`)))
	if put.Code != http.StatusOK {
		b.Fatal(put.Code, put.Body)
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		request := httptest.NewRequest(http.MethodGet, "/get/app/db/host", http.NoBody)
		w := &countingWriter{header: http.Header{}}
		for pb.Next() {
			clear(w.header)
			handler.ServeHTTP(w, request)
		}
		if w.writes > 0 && (w.status != http.StatusOK || w.bytes%w.writes != 0 || w.bytes/w.writes < 180) {
			b.Errorf("the last answer was %d; %d bytes in %d answers", w.status, w.bytes, w.writes)
		}
	})
}

// A countingWriter counts what is written to it.
type countingWriter struct {
	header        http.Header
	status        int
	bytes, writes int
}

func (w *countingWriter) Header() http.Header    { return w.header }
func (w *countingWriter) WriteHeader(status int) { w.status = status }

func (w *countingWriter) Write(b []byte) (int, error) {
	w.bytes += len(b)
	w.writes++
	return len(b), nil
}
