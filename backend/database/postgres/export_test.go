package postgres

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"kvstore/backend/database"
)

// RefuseServer is the check of what a server says of itself.
var RefuseServer = refuseServer

// Settings returns settings that are in force in a transaction of the writer.
func Settings(t *testing.T, db *database.DB, names map[string]string) map[string]string {
	t.Helper()
	tx := db.Engine.(*server).Writer.WithContext(t.Context()).Begin()
	defer tx.Rollback()
	found := map[string]string{}
	for name := range names {
		var value string
		if err := tx.Raw("SELECT current_setting(?)", name).Row().Scan(&value); err != nil {
			t.Fatal(err)
		}
		found[name] = value
	}
	return found
}

// Beat says that the backend runs.
func Beat(ctx context.Context, db *database.DB) error {
	s := db.Engine.(*server)
	return s.member.beat(ctx, s.Pinger)
}

// Plans returns how the server would run each statement that the connections of db have prepared, whatever
// the values are. Each pool must have one connection.
func Plans(t *testing.T, db *database.DB) map[string]string {
	t.Helper()
	found := map[string]string{}
	s := db.Engine.(*server)
	for _, pool := range []*gorm.DB{s.Writer, s.Readers, s.Index} {
		conns, err := pool.DB()
		if err != nil {
			t.Fatal(err)
		}
		conn, err := conns.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		explainAll(t, conn, found)
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	return found
}

func explainAll(t *testing.T, conn *sql.Conn, found map[string]string) {
	t.Helper()
	if _, err := conn.ExecContext(t.Context(), "SET plan_cache_mode = force_generic_plan"); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.QueryContext(t.Context(), `SELECT 'EXPLAIN (FORMAT JSON) EXECUTE ' || quote_ident(name) ||
		coalesce('(' || nullif(repeat('NULL, ', cardinality(parameter_types) - 1) ||
			CASE WHEN cardinality(parameter_types) > 0 THEN 'NULL' ELSE '' END, '') || ')', ''), statement
		FROM pg_prepared_statements WHERE statement ~ '^(SELECT|WITH|INSERT|DELETE|UPDATE)'`, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	explain := map[string]string{}
	for rows.Next() {
		var command, statement string
		if err := rows.Scan(&command, &statement); err != nil {
			t.Fatal(err)
		}
		explain[statement] = command
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for statement, command := range explain {
		var plan string
		if err := conn.QueryRowContext(t.Context(), command, pgx.QueryExecModeSimpleProtocol).Scan(&plan); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		found[statement] = plan
	}
}
