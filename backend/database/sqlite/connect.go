package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/mattn/go-sqlite3"
	gormsqlite "gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
)

const (
	// busyTimeout is how long a connection waits for another process.
	busyTimeout = 5 * time.Second
	// autoCheckpoint is the length of the write-ahead log, in pages, at which SQLite moves it into
	// the file. With four times the default the 99th percentile of a commit falls to a fifth.
	autoCheckpoint = "4000"
)

// dialector is GORM's dialector of SQLite with two changes.
type dialector struct{ gorm.Dialector }

// BindVarTo writes the placeholder of a variable. For "column = ?" SQLite estimates the number of
// rows from the bound value, and so plans a prepared statement again each time that values are
// bound: half of the time of a point read. It does not do that for "+?", which means the same.
func (dialector) BindVarTo(writer clause.Writer, _ *gorm.Statement, _ any) {
	_, _ = writer.WriteString("+?") // to a strings.Builder
}

// Translate returns the sentinel of package kv for an error.
func (dialector) Translate(err error) error { return kindOf(err) }

// sharedPragmas are those of every connection.
func sharedPragmas() url.Values {
	return url.Values{
		"_busy_timeout":    {strconv.FormatInt(busyTimeout.Milliseconds(), 10)},
		"_foreign_keys":    {"on"},
		"_stmt_cache_size": {"64"},
		"_cache_size":      {"-8000"}, // KiB, for each connection
	}
}

// openWriter opens the one connection that writes. A new file gets a pointer map, so that it can
// give free pages back to the disk.
func openWriter(path string, isNew bool, hook func(driver.Conn) error) (*gorm.DB, error) {
	pragmas := sharedPragmas()
	pragmas.Set("_journal_mode", "WAL")
	pragmas.Set("_synchronous", "FULL")
	pragmas.Set("_txlock", "immediate")
	pragmas.Set("_secure_delete", "on") // what is freed is overwritten
	if isNew {                          // on other files the pragma would write
		pragmas.Set("_auto_vacuum", "incremental")
	}
	return openPool(path, pragmas, 1, func(conn *sqlite3.SQLiteConn) error {
		if _, err := conn.Exec("PRAGMA wal_autocheckpoint = "+autoCheckpoint, nil); err != nil || hook == nil {
			return err
		}
		return hook(conn)
	})
}

// openReaders opens a pool of n connections that cannot write. Each is opened when it is
// first needed, and then ready must return nil: it must still be the same file.
func openReaders(path string, n int, ready func() error) (*gorm.DB, error) {
	pragmas := sharedPragmas()
	pragmas.Set("_query_only", "on")
	pragmas.Set("mode", "rw") // do not create the file
	return openPool(path, pragmas, n, func(*sqlite3.SQLiteConn) error { return ready() })
}

// withReader calls fn with a connection that cannot write, and closes it.
func withReader(ctx context.Context, path string, fn func(*gorm.DB) error) error {
	pragmas := sharedPragmas()
	pragmas.Set("_query_only", "on")
	return withConnection(ctx, path, pragmas, fn)
}

func withConnection(ctx context.Context, path string, pragmas url.Values, fn func(*gorm.DB) error) error {
	db, err := openPool(path, pragmas, 1, nil)
	if err != nil {
		return unreadable(err)
	}
	conns, err := db.DB()
	if err != nil {
		return err
	}
	return errors.Join(fn(db.WithContext(ctx)), conns.Close())
}

func openPool(path string, pragmas url.Values, n int, onConnect func(*sqlite3.SQLiteConn) error) (*gorm.DB, error) {
	pool := sql.OpenDB(newConnector(path, pragmas, onConnect))
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(n)
	db, err := gorm.Open(dialector{gormsqlite.New(gormsqlite.Config{Conn: pool})}, &gorm.Config{
		SkipDefaultTransaction: true,
		DisableAutomaticPing:   true,
		Logger:                 logger.Discard, // errors are returned, and logged once by the caller
	})
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return db, nil
}

// A connector opens connections with a hook, for pragmas that have no place in the DSN.
type connector struct {
	driver *sqlite3.SQLiteDriver
	dsn    string
}

func newConnector(path string, pragmas url.Values, onConnect func(*sqlite3.SQLiteConn) error) *connector {
	location := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: pragmas.Encode()}
	return &connector{driver: &sqlite3.SQLiteDriver{ConnectHook: onConnect}, dsn: location.String()}
}

func (c *connector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c *connector) Driver() driver.Driver                        { return c.driver }

// withWriter calls fn with the writing connection. Writes wait meanwhile.
func (f *file) withWriter(ctx context.Context, fn func(*sql.Conn) error) (err error) {
	pool, err := f.Writer.DB()
	if err != nil {
		return err
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return fn(conn)
}

// waitAtMost calls fn with another busy timeout of conn.
func waitAtMost(ctx context.Context, conn *sql.Conn, wait time.Duration, fn func() error) error {
	set := func(ctx context.Context, wait time.Duration) error {
		_, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout = %d", wait.Milliseconds()))
		return err
	}
	if err := set(ctx, wait); err != nil {
		return err
	}
	err := fn()
	// Even if fn failed or the caller has gone.
	return errors.Join(err, set(context.WithoutCancel(ctx), busyTimeout))
}

// truncateLog moves the log into the file and empties it. It reports false if a reader or another
// process is in the way.
func truncateLog(ctx context.Context, conn *sql.Conn) (empty bool, err error) {
	var busy, frames, moved int64
	if err := conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved); err != nil {
		return false, fmt.Errorf("checkpoint: %w", err)
	}
	return busy == 0, nil
}
