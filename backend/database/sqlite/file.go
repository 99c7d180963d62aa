package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"gorm.io/gorm"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// A Config describes the database to open.
type Config struct {
	// URL names the file, see ParseURL. A missing file or directory is created.
	URL string
	// Readers is the number of concurrent reads; 0 means two for each processor, and at least
	// four.
	Readers int
	// ConnectHook, if set, is called with the driver's writing connection each time that is
	// opened. Tests inject faults there.
	ConnectHook func(driver.Conn) error
	// Logger gets what an operator should know about the start.
	Logger *slog.Logger
	// Tracer, if set, makes a span for each statement and commit within a recorded span.
	Tracer trace.Tracer
}

// A file is the engine of an open database: see package database for what its methods promise.
type file struct {
	database.Pools
	path   string
	lock   *Lock
	pages  *os.File // see openPages
	passes passes   // of Scrub
}

// startWait is how long Open waits for other programs that read the log.
const startWait = 200 * time.Millisecond

// Open locks, checks and opens a database, or creates it. It refuses a file that another
// process has open, that is damaged or cannot be written, that belongs to another program, or
// whose schema has another version, and leaves it as it was.
func Open(ctx context.Context, cfg Config) (*database.DB, error) {
	path, err := ParseURL(cfg.URL)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, fmt.Errorf("database URL %q: %w", cfg.URL, err)
	}
	f := &file{path: path, passes: passes{turn: make(chan struct{}, 1)}}
	db, err := f.open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, errors.Join(err, f.Pools.Close(), f.Close()))
	}
	return db, nil
}

func (f *file) open(ctx context.Context, cfg Config) (_ *database.DB, err error) {
	if err := prepareFile(f.path); err != nil {
		return nil, err
	}
	if f.lock, err = AcquireLock(f.path); err != nil {
		return nil, err
	}
	if err := refuseHalfRestored(f.path); err != nil {
		return nil, err
	}
	for _, left := range []string{copySuffix, partialSuffix} { // of a process that was killed
		removeDatabase(f.path + left)
	}
	if f.pages, err = openPages(f.path); err != nil {
		return nil, err
	}
	// Before the writer opens, which would change the journal mode of a file that is not ours.
	found, err := checkAtStart(ctx, f.path, cfg.Logger)
	if err != nil {
		return nil, err
	}
	if f.Writer, err = openWriter(f.path, found.isNew, cfg.ConnectHook); err != nil {
		return nil, err
	}
	if err := f.moveLog(ctx, cfg.Logger); err != nil {
		return nil, err
	}
	if found.isNew {
		if err := createSchema(f.Writer.WithContext(ctx)); err != nil {
			return nil, fmt.Errorf("create the tables: %w", err)
		}
	}
	readers := cfg.Readers
	if readers == 0 {
		readers = max(4, 2*runtime.GOMAXPROCS(0))
	}
	if f.Readers, err = openReaders(f.path, readers, f.Ready); err != nil {
		return nil, err
	}
	if f.Pinger, err = openReaders(f.path, 1, f.Ready); err != nil {
		return nil, err
	}
	db, err := database.New(ctx, f, f.Pools, cfg.Tracer)
	if err == nil && found.damage != nil {
		db.NoteDamage(uint64(found.damage.All))
	}
	return db, err
}

// prepareFile creates the directory, and refuses a file that cannot be written or is not
// SQLite's.
func prepareFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("make the directory of the database: %w", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("the database file cannot be written: %w", err)
	}
	defer file.Close()
	const magic = "SQLite format 3\x00"
	header := make([]byte, len(magic))
	switch _, err := io.ReadFull(file, header); {
	case errors.Is(err, io.EOF): // a new, empty file
		likeItsDirectory(path)
		return nil
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("read the database file: %w", err)
	case !bytes.Equal(header, []byte(magic)):
		return fmt.Errorf("%s is not an SQLite database", path)
	}
	return nil
}

// moveLog moves what an earlier process left in the write-ahead log into the file, and
// syncs that, before anything is served. If a sync of the log failed in that process, the system's
// cache may hold what the disk does not, and no later sync would write it. It would be readable
// now and lost with the power, together with whatever follows it.
func (f *file) moveLog(ctx context.Context, logger *slog.Logger) error {
	empty := false
	err := f.withWriter(ctx, func(conn *sql.Conn) error {
		return waitAtMost(ctx, conn, startWait, func() (err error) {
			empty, err = truncateLog(ctx, conn)
			return err
		})
	})
	if err != nil && !errors.Is(kindOf(err), kv.ErrStorageFull) { // reads should go on
		return fmt.Errorf("move the write-ahead log into the file: %w", err)
	}
	if !empty {
		logger.Warn("the write-ahead log cannot be moved into the database file now: the disk is full, or another program reads it")
	}
	return nil
}

// Close closes the file and releases the lock. The last connection has moved the log into the
// file.
func (f *file) Close() error {
	var failures []error
	if f.pages != nil {
		if err := f.pages.Close(); !errors.Is(err, os.ErrClosed) { // a second Close does nothing
			failures = append(failures, err)
		}
	}
	if f.lock != nil {
		failures = append(failures, f.lock.Release())
	}
	return errors.Join(failures...)
}

// Ready fails once the open file no longer has its name. What is written after it was moved,
// removed or replaced goes to a file that no later start would find.
func (f *file) Ready() error {
	opened, err := f.pages.Stat()
	if errors.Is(err, os.ErrClosed) { // it is closed, as the next call will report
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the database file: %w: %w", kv.ErrUnavailable, err)
	}
	named, err := os.Stat(f.path)
	if err == nil && os.SameFile(named, opened) {
		return nil
	}
	return &kv.Error{Kind: kv.ErrUnavailable, Detail: "The database file was moved, removed or replaced while the service runs; " +
		"nothing is written until the service is restarted"}
}

// settleSQL changes a page and leaves it as it was.
var settleSQL = []string{
	"UPDATE store SET compacted = compacted + 1",
	"UPDATE store SET compacted = compacted - 1",
}

// Record writes the row of the store.
func (f *file) Record(tx *gorm.DB, _ database.Mark, c database.Commit) (database.Mark, error) {
	return database.Mark{}, database.SaveTotals(tx, c.Totals, c.Checksum)
}

// Resolve writes over what a failed commit has left. SQLite writes the last frame of a
// transaction to the log and then syncs the log. If the sync fails, it rolls the transaction back
// for this process but leaves the frames: the next process would take them for committed, and
// a refused write would appear. The next commit overwrites them.
func (f *file) Resolve(ctx context.Context, cause error) (database.Outcome, error) {
	if leavesNothing(cause) {
		return database.Refused, nil
	}
	return database.Lost, f.Writer.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		for _, statement := range settleSQL {
			if err := tx.Exec(statement).Error; err != nil {
				return err
			}
		}
		return nil
	})
}

const sizeSQL = "(SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size)"

// SizeSQL gives the size of the database file.
func (f *file) SizeSQL() string { return sizeSQL }

// LogBytes returns the size of the file of the write-ahead log, which does not shrink when the
// log starts anew.
func (f *file) LogBytes() (int64, error) {
	info, err := os.Stat(f.logName())
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f *file) logName() string { return f.path + "-wal" }

// DiskBytes describes the file system of the database.
func (f *file) DiskBytes() (free, size int64, known bool) { return diskSpace(f.path) }

// scheme begins the URL of an SQLite database.
const scheme = "sqlite:"

// ParseURL returns the path of the file that a database URL names. The form is
// sqlite:PATH; a relative path is relative to the working directory.
func ParseURL(url string) (path string, err error) {
	path, ok := strings.CutPrefix(url, scheme)
	if !ok {
		return "", fmt.Errorf("must be %sPATH, such as sqlite:data/kv_store.db, or postgres://USER:PASSWORD@HOST/DATABASE", scheme)
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
