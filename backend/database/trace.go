package database

import (
	"context"
	"errors"
	"strings"

	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"
	"gorm.io/gorm"
)

// trace registers callbacks for each statement. Without a tracer it registers none, which costs
// nothing.
func (db *DB) trace(tracer trace.Tracer) error {
	if tracer == nil {
		return nil
	}
	db.tracer = tracer
	begin := func(tx *gorm.DB) {
		if span := db.span(tx.Statement.Context, tx.Statement.SQL.String()); span != nil {
			tx.Statement.Settings.Store(spanKey{}, span)
		}
	}
	var failures []error
	for _, pool := range []*gorm.DB{db.pinger, db.readers, db.writer} {
		query, row, raw := pool.Callback().Query(), pool.Callback().Row(), pool.Callback().Raw()
		failures = append(
			failures, query.Before("*").Register("trace:begin", begin), query.After("*").Register("trace:end", endStatement),
			row.Before("*").Register("trace:begin", begin), row.After("*").Register("trace:end", endStatement),
			raw.Before("*").Register("trace:begin", begin), raw.After("*").Register("trace:end", endStatement),
		)
	}
	return errors.Join(failures...)
}

// spanKey finds the span of a statement in its settings.
type spanKey struct{}

func endStatement(tx *gorm.DB) {
	if span, traced := tx.Statement.Settings.LoadAndDelete(spanKey{}); traced {
		endSpan(span.(trace.Span), tx.Error)
	}
}

// commit commits tx with a span: most of a write's time is here.
func (db *DB) commit(ctx context.Context, tx *gorm.DB) error {
	if db.tracer == nil {
		return tx.Commit().Error
	}
	span := db.span(ctx, "COMMIT")
	err := tx.Commit().Error
	if span != nil {
		endSpan(span, err)
	}
	return err
}

// span starts a span for a statement if ctx has a recorded one, else it returns nil. So what belongs to
// no request, such as the search for expired keys, has no spans.
func (db *DB) span(ctx context.Context, statement string) trace.Span {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return nil
	}
	operation, table := summaryOf(statement)
	_, span := db.tracer.Start(ctx, strings.TrimSuffix(operation+" "+table, " "), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(semconv.DBSystemNameKey.String(db.writer.Name()), semconv.DBOperationName(operation)))
	if table != "" {
		span.SetAttributes(semconv.DBCollectionName(table))
	}
	return span
}

func endSpan(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, "") // the cause is in the log, and may contain data
	}
	span.End()
}

// summaryOf returns the first word of a statement and its table. Statements contain no values.
func summaryOf(statement string) (operation, table string) {
	words := strings.Fields(statement)
	depth := 0 // of brackets: the table of an inner query is another
	for i, word := range words {
		if depth == 0 && i+1 < len(words) && (word == "FROM" || word == "INTO" || word == "UPDATE") {
			return words[0], strings.Trim(words[i+1], "(),")
		}
		depth += strings.Count(word, "(") - strings.Count(word, ")")
	}
	if len(words) == 0 {
		return "SQL", ""
	}
	return words[0], ""
}
