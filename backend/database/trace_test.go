package database_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"kvstore/backend/database"
	"kvstore/backend/database/databasetest"
	"kvstore/backend/database/sqlite"
	"kvstore/backend/kv"
)

// TestTrace: each statement of a request has a span that is a child of the request's,
// the commit too, and what belongs to no request has none.
func TestTrace(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
	db, err := sqlite.Open(t.Context(), sqlite.Config{URL: databasetest.FileURL(t), Logger: slog.New(slog.DiscardHandler), Tracer: tracer})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	put := func(ctx context.Context) {
		err := db.Update(ctx, func(tx *database.Tx) error {
			if err := tx.Load("secret"); err != nil {
				return err
			}
			tx.Append(kv.Entry{Key: "secret", Value: []byte("hidden"), Operation: kv.OpPut})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put(t.Context())
	if n := len(spans.Started()); n != 0 {
		t.Fatalf("%d spans without a request", n)
	}
	ctx, request := tracer.Start(t.Context(), "request")
	put(ctx)
	if _, err := db.Latest(ctx, "secret"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Stats(ctx); err != nil {
		t.Fatal(err)
	}
	if err := db.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, span := range spans.Ended() {
		names = append(names, span.Name())
		if span.Parent().SpanID() != request.SpanContext().SpanID() {
			t.Errorf("the parent of %s is another", span.Name())
		}
		for _, attribute := range span.Attributes() {
			if text := attribute.Value.String(); strings.Contains(text, "secret") || strings.Contains(text, "hidden") {
				t.Errorf("%s tells the data", attribute.Key)
			}
		}
	}
	if got, want := strings.Join(names, ", "), "INSERT keys, INSERT versions, UPDATE store, COMMIT, SELECT keys, SELECT store, SELECT store"; got != want {
		t.Errorf("spans %s, want %s", got, want)
	}
}
