package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"kvstore/backend/database"
	"kvstore/backend/database/postgres"
	"kvstore/backend/database/sqlite"
	"kvstore/internal/telemetry"
)

// onPostgres reports whether the database is on a PostgreSQL server.
func (c config) onPostgres() bool { return isPostgres(c.databaseURL) }

func isPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}

func checkDatabaseURL(url string) (err error) {
	if isPostgres(url) {
		_, err = postgres.ParseURL(url)
	} else {
		_, err = sqlite.ParseURL(url)
	}
	return err
}

// databaseName is the URL of the database without its password.
func (c config) databaseName() string { return nameOf(c.databaseURL) }

// nameOf is a database URL without its password.
func nameOf(url string) string {
	if isPostgres(url) {
		return postgres.Address(url)
	}
	return url
}

// backend names this process in a shared database.
func (c config) backend() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("name this backend: %w", err)
	}
	return host + " " + c.addr, nil
}

// openDatabase opens the database with the engine that its URL names.
func (c config) openDatabase(ctx context.Context, logger *slog.Logger, tracer trace.Tracer) (*database.DB, error) {
	if !c.onPostgres() {
		return sqlite.Open(ctx, sqlite.Config{URL: c.databaseURL, Logger: logger, Tracer: tracer})
	}
	name, err := c.backend()
	if err != nil {
		return nil, err
	}
	return postgres.Open(ctx, postgres.Config{
		URL: c.databaseURL, Readers: c.databaseConnections, Backend: name, Program: telemetry.Version,
		Export: sqlite.Export, Tracer: tracer,
	})
}
