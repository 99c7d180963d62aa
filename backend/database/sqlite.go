package database

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-sqlite3"
	gormsqlite "gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"kvstore/backend/kv"
)

// Everything that is particular to SQLite stands in this file.

const (
	// applicationID marks a file as one of ours: "kvst" in ASCII.
	applicationID = 0x6b767374
	// busyTimeout is how long a connection waits for another process.
	busyTimeout = 5 * time.Second
	// autoCheckpoint is how many pages the write-ahead log has when SQLite moves it into the
	// file. Fewer, larger checkpoints: the 99th percentile of a commit falls to a fifth.
	autoCheckpoint = "4000"
	// sizeSQL gives the size of the database file in bytes.
	sizeSQL = "(SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size)"
	// maxQuickCheckBytes bounds the file that is checked whole at each start. A
	// check reads about 500 MB a second; larger files are checked by the command
	// "check" alone.
	maxQuickCheckBytes = 256 << 20
	// maxRowCheckBytes bounds the file whose rows are compared with their checksums at
	// each start, which takes several times as long. Reads compare them in any case.
	maxRowCheckBytes = 64 << 20
)

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
// first needed; then it must be the same file still, which inPlace tells.
func openReaders(path string, n int, inPlace func() error) (*gorm.DB, error) {
	pragmas := sharedPragmas()
	pragmas.Set("_query_only", "on")
	pragmas.Set("mode", "rw") // a file that is missing is not made
	return openPool(path, pragmas, n, func(*sqlite3.SQLiteConn) error { return inPlace() })
}

// withReader calls fn with a connection of its own that cannot write.
func withReader(path string, fn func(*gorm.DB) error) error {
	pragmas := sharedPragmas()
	pragmas.Set("_query_only", "on")
	return withConnection(path, pragmas, fn)
}

func withConnection(path string, pragmas url.Values, fn func(*gorm.DB) error) error {
	db, err := openPool(path, pragmas, 1, nil)
	if err != nil {
		return unreadable(err)
	}
	conns, err := db.DB()
	if err != nil {
		return err
	}
	return errors.Join(fn(db), conns.Close())
}

func openPool(path string, pragmas url.Values, n int, onConnect func(*sqlite3.SQLiteConn) error) (*gorm.DB, error) {
	pool := sql.OpenDB(newConnector(path, pragmas, onConnect))
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(n)
	db, err := gorm.Open(gormsqlite.New(gormsqlite.Config{Conn: pool}), &gorm.Config{
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

// prepareFile makes the directory and refuses a file that no database of ours can
// be in: one that cannot be written, or is not SQLite.
func prepareFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("make the directory of the database: %w", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("the database file cannot be written: %w", err)
	}
	defer file.Close()
	header := make([]byte, len(sqliteMagic))
	switch _, err := io.ReadFull(file, header); {
	case errors.Is(err, io.EOF): // a new, empty file
		likeItsDirectory(path)
		return nil
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("read the database file: %w", err)
	case !bytes.Equal(header, []byte(sqliteMagic)):
		return fmt.Errorf("%s is not an SQLite database", path)
	}
	return nil
}

const sqliteMagic = "SQLite format 3\x00"

// A finding is what checkFile learns of a file that it accepts.
type finding struct {
	isNew bool // it has no tables
	whole bool // all of it was read
	small bool // maxRowCheckBytes at most
	// damage is of rows, in a file that SQLite can read. nil when they were not checked.
	damage *rowDamage
}

// checkFile refuses a database whose structure is damaged, which belongs to another
// program, or whose schema has another version. It reads all of a file up to maxQuickCheckBytes.
func checkFile(db *gorm.DB) (finding, error) {
	var tables, id, version, size int64
	err := db.Raw(`SELECT (SELECT count(*) FROM sqlite_master), (SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version), `+sizeSQL).Row().Scan(&tables, &id, &version, &size)
	switch {
	case err != nil:
		return finding{}, unreadable(err)
	case tables == 0:
		return finding{isNew: true, whole: true}, nil
	case id != applicationID:
		return finding{}, errors.New("the file is the SQLite database of another program")
	}
	if err := refuseSchema(db, version); err != nil || size > maxQuickCheckBytes {
		return finding{}, err
	}
	return finding{whole: true, small: size <= maxRowCheckBytes}, check(db, "quick_check")
}

// unreadable says of the first read why it failed, as far as SQLite tells.
func unreadable(err error) error {
	if errors.Is(kindOf(err), kv.ErrStorageFull) { // the file is whole, and there may be a lot of it
		return fmt.Errorf("the disk is full, there is no room for the 32 KiB beside the database that it is opened with (its file -shm): %w", err)
	}
	if wasEnded(err) {
		return err
	}
	return fmt.Errorf("the database file is damaged or cannot be read: %w", err)
}

// check runs one of SQLite's own checks (quick_check or integrity_check).
func check(db *gorm.DB, pragma string) error {
	var found string
	if err := db.Raw("PRAGMA " + pragma + "(1)").Row().Scan(&found); err != nil {
		return unsound(err)
	}
	if found != "ok" {
		return fmt.Errorf("the database file is damaged: %s", found)
	}
	return nil
}

// sqliteScheme begins the URL of an SQLite database.
const sqliteScheme = "sqlite:"

// ParseURL returns the path of the file that a database URL names. The form is
// sqlite:PATH; a relative path is relative to the working directory.
func ParseURL(url string) (path string, err error) {
	path, ok := strings.CutPrefix(url, sqliteScheme)
	if !ok {
		return "", fmt.Errorf("must be %sPATH, such as sqlite:data/kv_store.db; no other database is supported", sqliteScheme)
	}
	path = strings.TrimPrefix(path, "//")
	switch {
	case path == "":
		return "", errors.New("must name a file, as in sqlite:data/kv_store.db")
	case strings.HasPrefix(path, ":memory:"):
		return "", errors.New("must name a file: a database in memory would lose what it acknowledged")
	case strings.ContainsAny(path, "?#\x00"):
		return "", errors.New("must be a plain path without ?, # or NUL; it takes no options")
	}
	return path, nil
}
