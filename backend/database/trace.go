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

// trace makes GORM tell the tracer of each statement. Without a tracer nothing is
// registered, so that a statement costs what it did.
func (db *DB) trace(tracer trace.Tracer) error {
	if tracer == nil {
		return nil
	}
	db.tracer = tracer
	return errors.Join(traceStatements(db.pinger, tracer), traceStatements(db.readers, tracer), traceStatements(db.writer, tracer))
}

func traceStatements(db *gorm.DB, tracer trace.Tracer) error {
	begin := func(tx *gorm.DB) { beginStatement(tx, tracer) }
	callback := db.Callback()
	return errors.Join(
		callback.Query().Before("*").Register("trace:before_query", begin),
		callback.Query().After("*").Register("trace:after_query", endStatement),
		callback.Row().Before("*").Register("trace:before_row", begin),
		callback.Row().After("*").Register("trace:after_row", endStatement),
		callback.Raw().Before("*").Register("trace:before_raw", begin),
		callback.Raw().After("*").Register("trace:after_raw", endStatement),
	)
}

// outerKey finds, in the context of a statement that is traced, the one around it.
type outerKey struct{}

// recorded returns the span of ctx if it is one that is kept, else nil. What belongs
// to no request, such as the search for expired keys, makes no trace of its own.
func recorded(ctx context.Context) trace.Span {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		return span
	}
	return nil
}

func beginStatement(tx *gorm.DB, tracer trace.Tracer) {
	outer := tx.Statement.Context
	if recorded(outer) == nil {
		return
	}
	ctx, _ := tracer.Start(context.WithValue(outer, outerKey{}, outer), "SQL", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(semconv.DBSystemNameSQLite))
	tx.Statement.Context = ctx
}

func endStatement(tx *gorm.DB) {
	ctx := tx.Statement.Context
	outer, traced := ctx.Value(outerKey{}).(context.Context)
	if !traced {
		return
	}
	tx.Statement.Context = outer
	span := trace.SpanFromContext(ctx)
	operation, table := summaryOf(tx.Statement.SQL.String())
	span.SetName(strings.TrimSuffix(operation+" "+table, " "))
	span.SetAttributes(semconv.DBOperationName(operation))
	if table != "" {
		span.SetAttributes(semconv.DBCollectionName(table))
	}
	endSpan(span, tx.Error)
}

// commit commits tx, and makes a span of that: most of a write's time is here.
func (db *DB) commit(ctx context.Context, tx *gorm.DB) error {
	if db.tracer == nil || recorded(ctx) == nil {
		return tx.Commit().Error
	}
	_, span := db.tracer.Start(ctx, "COMMIT", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(semconv.DBSystemNameSQLite, semconv.DBOperationName("COMMIT")))
	err := tx.Commit().Error
	endSpan(span, err)
	return err
}

func endSpan(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, "") // the cause is in the log, and may tell of the data
	}
	span.End()
}

// summaryOf returns the first word of a statement and the table that it is about.
// All statements are ours, with a ? for each value.
func summaryOf(statement string) (operation, table string) {
	words := strings.Fields(statement)
	depth := 0 // of brackets: a query within the query is not what it is about
	for i, word := range words {
		switch word {
		case "FROM", "INTO", "UPDATE":
			if depth == 0 && i+1 < len(words) {
				return words[0], strings.Trim(words[i+1], "(),")
			}
		}
		depth += strings.Count(word, "(") - strings.Count(word, ")")
	}
	if len(words) == 0 {
		return "SQL", ""
	}
	return words[0], ""
}
