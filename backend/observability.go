package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"kvstore/backend/api"
	"kvstore/backend/database"
	"kvstore/backend/store"
	"kvstore/internal/telemetry"
)

// writerMetrics measures the writer's transactions.
type writerMetrics struct {
	size, commit prometheus.Histogram
	failed       prometheus.Counter
}

func newWriterMetrics(m *telemetry.Metrics) *writerMetrics {
	const doublings = 8 // up to the 128 writes of the largest transaction
	w := &writerMetrics{
		size: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kv_writer_batch_versions", Help: "Versions written by one transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 2, doublings),
		}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "kv_writer_commit_duration_seconds",
			Help:    "Time from the start of a transaction until it is on disk and in the cache.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kv_writer_failed_batches_total", Help: "Transactions that wrote nothing because the database failed.",
		}),
	}
	m.Register(w.size, w.commit, w.failed)
	return w
}

func (w *writerMetrics) observe(t store.Transaction, took time.Duration) {
	if t.Err != nil {
		w.failed.Inc()
		return
	}
	w.size.Observe(float64(t.Versions))
	w.commit.Observe(took.Seconds())
}

// transactions returns the function that observes transactions of the store, or nil if
// metrics and tracing are off.
func (o *observability) transactions() store.Observe {
	if o.metrics == nil && o.tracing == nil {
		return nil
	}
	tracer := o.tracing.Tracer()
	var metrics *writerMetrics
	if o.metrics != nil {
		metrics = newWriterMetrics(o.metrics)
	}
	return func(callers []context.Context) (context.Context, func(store.Transaction)) {
		start := time.Now()
		ctx, span := beginTransaction(callers, tracer)
		return ctx, func(t store.Transaction) {
			if metrics != nil {
				metrics.observe(t, time.Since(start))
			}
			if span != nil {
				endTransaction(span, t)
			}
		}
	}
}

// beginTransaction starts the span of a transaction, if a caller has a span that is
// recorded. A span has only one parent, but a transaction has many requests. So it is a
// child of the first one, and linked with each of the others in both directions.
func beginTransaction(callers []context.Context, tracer trace.Tracer) (context.Context, trace.Span) {
	if tracer == nil {
		return context.Background(), nil
	}
	var spans []trace.Span
	for _, caller := range callers {
		if span := trace.SpanFromContext(caller); span.IsRecording() {
			spans = append(spans, span)
		}
	}
	if len(spans) == 0 {
		return context.Background(), nil
	}
	links := make([]trace.Link, 0, len(spans)-1)
	for _, other := range spans[1:] {
		links = append(links, trace.Link{SpanContext: other.SpanContext()})
	}
	parent := trace.ContextWithSpan(context.Background(), spans[0]) // the caller's context may end earlier
	ctx, span := tracer.Start(parent, "write transaction", trace.WithLinks(links...),
		trace.WithAttributes(attribute.Int("kv.transaction.requests", len(callers))))
	for _, other := range spans[1:] {
		other.AddLink(trace.Link{SpanContext: span.SpanContext()})
	}
	return ctx, span
}

func endTransaction(span trace.Span, t store.Transaction) {
	span.SetAttributes(attribute.Int("kv.transaction.versions", t.Versions))
	if t.Err != nil {
		span.SetStatus(codes.Error, "") // the log has the cause
	}
	span.End()
}

// observability holds the metrics and the tracing of the backend. Each is nil if it is off.
type observability struct {
	metrics *telemetry.Metrics
	tracing *telemetry.Tracing
}

// startObservability starts what the settings and the environment ask for. The caller must
// close it, even after an error.
func startObservability(
	ctx context.Context, c config, getenv func(string) string, logger *slog.Logger,
) (o observability, err error) {
	if o.metrics, err = telemetry.ServeMetrics(ctx, "backend", c.metricsAddr, logger); err != nil {
		return o, err
	}
	o.tracing, err = telemetry.StartTracing(ctx, "backend", getenv, logger)
	return o, err
}

// register adds the metrics of the store and its database, and returns those of requests.
func (o *observability) register(st *store.Store, db *database.DB, logger *slog.Logger) *telemetry.RequestMetrics {
	o.metrics.Register(telemetry.Statistics(storeStatistics{st, db, logger}.collect))
	return o.metrics.Requests("kv_http", api.Routes())
}

// close sends the last spans and stops serving metrics.
func (o *observability) close() error {
	o.tracing.Close()
	return o.metrics.Close()
}
