package database

import (
	"context"
	"database/sql"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"kvstore/backend/kv"
)

var pragmaNames = []string{
	"journal_mode", "synchronous", "foreign_keys", "busy_timeout", "wal_autocheckpoint", "auto_vacuum", "query_only",
}

// Pragmas returns what is in force on the writer's connection and on every
// connection of the readers' pool, all of them opened at once.
func (db *DB) Pragmas(t *testing.T) (writer map[string]string, readers []map[string]string) {
	t.Helper()
	read := func(pool *gorm.DB, n int) []map[string]string {
		conns, err := pool.DB()
		if err != nil {
			t.Fatal(err)
		}
		var all []map[string]string
		for range n {
			conn, err := conns.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			found := map[string]string{}
			for _, name := range pragmaNames {
				var value string
				if err := conn.QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&value); err != nil {
					t.Fatal(err)
				}
				found[name] = value
			}
			all = append(all, found)
		}
		return all
	}
	return read(db.writer, 1)[0], read(db.readers, readerCount(0))
}

// SchemaDrift returns the statements by which the models would change the migrated
// schema.
func (db *DB) SchemaDrift(t *testing.T) []string {
	t.Helper()
	var log statements
	session := db.writer.Session(&gorm.Session{Logger: &log})
	if err := session.AutoMigrate(&storeRow{}, &keyRow{}, &versionRow{}, &erasedRow{}); err != nil {
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

// A Statement is one that was run, and how SQLite runs it.
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
		var steps []struct{ Detail string }
		if err := db.readers.WithContext(t.Context()).Raw("EXPLAIN QUERY PLAN " + sql).Scan(&steps).Error; err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		statement := Statement{SQL: sql}
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

// CopyWith is Copy with something to do after each step.
func (db *DB) CopyWith(ctx context.Context, between func()) (*Copy, error) {
	return db.copy(ctx, between)
}

// ScrubWith is Scrub with something to do while a pass has let go of the writer.
func (db *DB) ScrubWith(ctx context.Context, between func(pages int)) error {
	return db.scrub(ctx, between)
}

// Passes is how many passes Scrub has begun.
func (db *DB) Passes() int64 { return db.passes.started.Load() }

// ScrubPages is how many pages a pass looks at while writes wait.
const ScrubPages = scrubPages

// MovePages has that many pages at the end of the file moved to where it has room.
func (db *DB) MovePages(ctx context.Context, pages int) error {
	return db.withWriter(ctx, func(conn *sql.Conn) error { return vacuumPages(ctx, conn, pages) })
}

// Plant puts a mark into the gap of every page of the file that has room for it, and
// returns how many these are. The database must not be open.
func Plant(t testing.TB, path, mark string) (planted int) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	data, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	for number := int64(mapsFirst); number*pageSize <= int64(len(data)); number++ {
		behind := (number - mapsFirst) % mapPages
		if behind == 0 {
			continue
		}
		offset := (number - 1) * pageSize
		from, to := gapOf(data[offset-behind*pageSize+mapEntry*(behind-1)], data[offset:offset+pageSize])
		if to-from < len(mark) {
			continue
		}
		if _, err := file.WriteAt([]byte(mark), offset+int64(from)); err != nil {
			t.Fatal(err)
		}
		planted++
	}
	return planted
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
