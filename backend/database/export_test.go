package database

import (
	"context"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"
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
	if err := session.AutoMigrate(&storeRow{}, &keyRow{}, &versionRow{}); err != nil {
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
