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
	"kvstore/backend/store"
	"kvstore/internal/telemetry"
)

// writerMetrics are those of the writer's transactions.
type writerMetrics struct {
	size, commit prometheus.Histogram
	failed       prometheus.Counter
}

func newWriterMetrics(m *telemetry.Metrics) *writerMetrics {
	const doublings = 8 // up to the 128 writes of the largest transaction
	w := &writerMetrics{
		size: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kv_writer_batch_versions", Help: "Versions that one transaction has written.",
			Buckets: prometheus.ExponentialBuckets(1, 2, doublings),
		}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kv_writer_commit_duration_seconds", Help: "Time from the begin of a transaction until it is on disk and in the cache.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kv_writer_failed_batches_total", Help: "Transactions of which nothing was written since the database failed.",
		}),
	}
	m.Register(w.size, w.commit, w.failed)
	return w
}

func (w *writerMetrics) ended(t store.Transaction, took time.Duration) {
	if t.Err != nil {
		w.failed.Inc()
		return
	}
	w.size.Observe(float64(t.Versions))
	w.commit.Observe(took.Seconds())
}

// observer returns what watches the writer for metrics and for traces, nil for
// neither.
func (s *sight) observer() store.Observe {
	if s.metrics == nil && s.tracing == nil {
		return nil
	}
	tracer := s.tracing.Tracer()
	var metrics *writerMetrics
	if s.metrics != nil {
		metrics = newWriterMetrics(s.metrics)
	}
	return func(callers []context.Context) (context.Context, func(store.Transaction)) {
		start := time.Now()
		ctx, span := beginTransaction(callers, tracer)
		return ctx, func(t store.Transaction) {
			if metrics != nil {
				metrics.ended(t, time.Since(start))
			}
			if span != nil {
				endTransaction(span, t)
			}
		}
	}
}

// beginTransaction starts the span of a transaction, if one of its callers has one
// that is recorded. It is a child of the first of them, and linked with each of the
// others in both directions: a span has one parent only, and one transaction many
// requests.
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
	parent := trace.ContextWithSpan(context.Background(), spans[0]) // not the caller's, which may end
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

// sight is what the backend shows of itself to operators. Both parts are nil when
// they are off.
type sight struct {
	metrics *telemetry.Metrics
	tracing *telemetry.Tracing
}

// openSight starts what the settings and the environment ask for. It must be closed,
// after an error too.
func openSight(ctx context.Context, c config, getenv func(string) string, logger *slog.Logger) (s sight, err error) {
	if s.metrics, err = telemetry.ServeMetrics(ctx, "backend", c.metricsAddr, logger); err != nil {
		return s, err
	}
	s.tracing, err = telemetry.StartTracing(ctx, "backend", getenv, logger)
	return s, err
}

// options are what the handler needs to show the requests, and the store is shown
// from then on too.
func (s *sight) options(st *store.Store, logger *slog.Logger) []api.Option {
	if s.metrics != nil {
		s.metrics.Register(telemetry.Statistics(storeStatistics{st, logger}.collect))
	}
	var requests *telemetry.RequestMetrics
	if s.metrics != nil {
		requests = s.metrics.Requests("kv_http", api.Routes())
	}
	return []api.Option{api.Observed(requests, s.tracing.Tracer())}
}

// close sends the last spans and ends the metrics.
func (s *sight) close() error {
	s.tracing.Close()
	return s.metrics.Close()
}
