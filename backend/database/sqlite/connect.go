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
	// autoCheckpoint is how many pages the write-ahead log has when SQLite moves it into the
	// file. Fewer, larger checkpoints: the 99th percentile of a commit falls to a fifth.
	autoCheckpoint = "4000"
)

// dialector is GORM's for SQLite, but for what this package needs otherwise.
type dialector struct{ gorm.Dialector }

// BindVarTo writes the place of a variable. In "column = ?" SQLite looks at the value that is bound,
// to estimate how many rows have it, and so parses and plans the statement anew each time that
// the driver binds: half of the time that a read of one version takes. It does not look behind
// a plus sign, which changes nothing.
func (dialector) BindVarTo(writer clause.Writer, _ *gorm.Statement, _ any) {
	_, _ = writer.WriteString("+?") // to a strings.Builder
}

// Translate returns the sentinel of package kv that an error is.
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

// openWriter opens the one connection that writes. A file that is new is made so
// that its free pages can be given back to the disk later.
func openWriter(path string, isNew bool, hook func(driver.Conn) error) (*gorm.DB, error) {
	pragmas := sharedPragmas()
	pragmas.Set("_journal_mode", "WAL")
	pragmas.Set("_synchronous", "FULL")
	pragmas.Set("_txlock", "immediate")
	pragmas.Set("_secure_delete", "on") // what is freed is overwritten
	if isNew {                          // on a file that has it already the pragma is a write
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
// first needed; then it must be the same file still, which ready tells.
func openReaders(path string, n int, ready func() error) (*gorm.DB, error) {
	pragmas := sharedPragmas()
	pragmas.Set("_query_only", "on")
	pragmas.Set("mode", "rw") // a file that is missing is not made
	return openPool(path, pragmas, n, func(*sqlite3.SQLiteConn) error { return ready() })
}

// withReader calls fn with a connection of its own that cannot write.
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
		Logger:                 logger.Discard, // errors are returned, and logged once, above
	})
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return db, nil
}

// connector opens connections of the driver by hand, since a pragma that has no
// place in the DSN must reach every connection too.
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

// withWriter calls fn with the one connection that writes; nobody else writes
// meanwhile.
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

// waitAtMost calls fn, in which conn waits that long for readers and other processes.
func waitAtMost(ctx context.Context, conn *sql.Conn, wait time.Duration, fn func() error) error {
	set := func(ctx context.Context, wait time.Duration) error {
		_, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout = %d", wait.Milliseconds()))
		return err
	}
	if err := set(ctx, wait); err != nil {
		return err
	}
	err := fn()
	// Whatever comes of it, and though the caller may have gone.
	return errors.Join(err, set(context.WithoutCancel(ctx), busyTimeout))
}

// truncateLog moves the log into the file, waits that long for whoever is in the way, and reports
// whether the log is empty then.
func (f *file) truncateLog(ctx context.Context, wait time.Duration) (empty bool, err error) {
	err = f.withWriter(ctx, func(conn *sql.Conn) error {
		return waitAtMost(ctx, conn, wait, func() error {
			empty, err = truncateLog(ctx, conn)
			return err
		})
	})
	return empty, err
}

func truncateLog(ctx context.Context, conn *sql.Conn) (empty bool, err error) {
	var busy, frames, moved int64
	if err := conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved); err != nil {
		return false, fmt.Errorf("checkpoint: %w", err)
	}
	return busy == 0, nil
}
