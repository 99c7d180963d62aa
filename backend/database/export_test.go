package database

import (
	"context"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"kvstore/backend/kv"
)

// SchemaDrift returns the statements by which the models would change the migrated
// schema.
func (db *DB) SchemaDrift(t *testing.T) []string {
	t.Helper()
	var log statements
	session := db.writer.Session(&gorm.Session{Logger: &log})
	models := []any{&keyRow{}, &versionRow{}, &erasedRow{}}
	if session.Name() == "sqlite" { // else it is a view
		models = append(models, &storeRow{})
	}
	if err := session.AutoMigrate(models...); err != nil {
		t.Fatal(err)
	}
	return log
}

// statements is a GORM logger that keeps the statements that change a schema.
type statements []string

func (s *statements) LogMode(logger.LogLevel) logger.Interface { return s }
func (s *statements) Info(context.Context, string, ...any)     {}
func (s *statements) Warn(context.Context, string, ...any)     {}
func (s *statements) Error(context.Context, string, ...any)    {}
func (s *statements) Trace(_ context.Context, _ time.Time, fc func() (string, int64), _ error) {
	sql, _ := fc()
	for _, verb := range []string{"CREATE", "ALTER", "DROP", "INSERT"} {
		if strings.HasPrefix(sql, verb) {
			*s = append(*s, sql)
		}
	}
}

// A Statement is one that was run, and how SQLite runs it; of another engine there is no plan.
type Statement struct {
	SQL  string
	Plan []string
}

// Statements returns what fn, which may read only, has SQLite run.
func (db *DB) Statements(t *testing.T, fn func()) []Statement {
	t.Helper()
	var log reads
	quiet := db.readers
	db.readers = quiet.Session(&gorm.Session{Logger: &log})
	fn()
	db.readers = quiet
	found := make([]Statement, 0, len(log.all))
	for _, sql := range log.all {
		statement := Statement{SQL: sql}
		if db.readers.Name() != "sqlite" { // plans of other engines depend on the size of tables
			found = append(found, statement)
			continue
		}
		var steps []struct{ Detail string }
		if err := db.readers.WithContext(t.Context()).Raw("EXPLAIN QUERY PLAN " + sql).Scan(&steps).Error; err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		for _, step := range steps {
			statement.Plan = append(statement.Plan, step.Detail)
		}
		found = append(found, statement)
	}
	return found
}

// Writes returns what fn has SQLite run on the connection that writes.
func (db *DB) Writes(fn func()) []string {
	var log reads
	quiet := db.writer
	db.writer = quiet.Session(&gorm.Session{Logger: &log})
	fn()
	db.writer = quiet
	return log.all
}

// reads is a GORM logger that keeps every statement.
type reads struct {
	statements
	all []string
}

func (r *reads) LogMode(logger.LogLevel) logger.Interface { return r }
func (r *reads) Trace(_ context.Context, _ time.Time, fc func() (string, int64), _ error) {
	sql, _ := fc()
	r.all = append(r.all, sql)
}

// GoneKeys is how many keys one search for missing revisions looks at.
const GoneKeys = goneKeys

// Redate changes the time of the version that was appended last.
func (t *Tx) Redate(at kv.Timestamp) { t.appended[len(t.appended)-1].Time = at }

// Prune removes all versions of key but the latest.
func (t *Tx) Prune(key string) error {
	_, err := t.prune([]string{key}, Retention{MaxVersions: 1}, goneKeys)
	return err
}
