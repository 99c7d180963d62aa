package sqlite

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"gorm.io/gorm"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// A Config says which database to open.
type Config struct {
	// URL is that of ParseURL. The file and its directory are made when missing.
	URL string
	// Readers is how many reads may run at once; 0 means two for each processor,
	// and at least four.
	Readers int
	// ConnectHook, when set, is called with the driver's connection that writes,
	// each time it is opened. Tests inject faults there.
	ConnectHook func(driver.Conn) error
	// Logger is told what an operator should know of the start.
	Logger *slog.Logger
	// Tracer, when set, makes a span of each statement and commit that belongs to a
	// span that is recorded.
	Tracer trace.Tracer
}

// A file is the engine of an open database.
type file struct {
	database.Pools
	path    string
	lock    *Lock
	pages   *os.File   // see openPages
	passes  passes     // of Scrub
	copying sync.Mutex // held while there is a Copy
}

// startWait is how long a start waits for other programs that read the log.
const startWait = 200 * time.Millisecond

// Open locks the database, checks it and returns it; it makes one that is missing. It
// refuses, with an error that says why, a file that another process holds, that is
// damaged, cannot be written, is no database of this program, or has a schema of another
// version. A refused file is left as it was.
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
	for _, left := range []string{copySuffix, partialSuffix} { // by a process that was killed
		removeDatabase(f.path + left)
	}
	if f.pages, err = openPages(f.path); err != nil {
		return nil, err
	}
	// The check comes before the writer, which would change the journal mode of
	// a file that is not ours.
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
// syncs that, before anything of it is served. If a sync of the log failed in that
// process, the memory of the system may have what the disk has not, and no later sync
// would write it: it would be read now and gone after a loss of power, and with it
// whatever is appended behind it.
func (f *file) moveLog(ctx context.Context, logger *slog.Logger) error {
	empty, err := f.truncateLog(ctx, startWait)
	if errors.Is(kindOf(err), kv.ErrStorageFull) { // reads should go on
		empty, err = false, nil
	}
	if err != nil {
		return fmt.Errorf("move the write-ahead log into the file: %w", err)
	}
	if !empty {
		logger.Warn("the write-ahead log cannot be moved into the database file now: the disk is full, or another program reads it")
	}
	return nil
}

// Close closes the file and gives the lock back. The last connection has moved the write-ahead
// log into the file.
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

// Ready returns nil when the file that is open is still the one that has the name of
// the database. After it was moved, removed or replaced, what is written goes to a file
// that no later start would find, so nothing may be written and answered.
func (f *file) Ready() error {
	opened, err := f.pages.Stat()
	if errors.Is(err, os.ErrClosed) { // the database is closed, which what comes next tells
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

// UndoCommit writes over what a failed commit has left. SQLite writes the last frame of a
// transaction into the log, without which the others count for nothing, and then syncs the log.
// When the sync fails it rolls the transaction back for this process, and the frames stay: the
// next process that reads the log would take them for committed, and a write that was refused
// would appear. What is committed next is written over them.
func (f *file) UndoCommit(ctx context.Context, cause error) error {
	if leavesNothing(cause) {
		return nil
	}
	return f.Writer.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
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

// LogBytes returns the size of the write-ahead log, 0 when there is none. The file
// keeps the size of the longest log since it was made anew.
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

// DiskBytes tells of the file system that the database is on.
func (f *file) DiskBytes() (free, size int64, known bool) { return diskSpace(f.path) }

// scheme begins the URL of an SQLite database.
const scheme = "sqlite:"

// ParseURL returns the path of the file that a database URL names. The form is
// sqlite:PATH; a relative path is relative to the working directory.
func ParseURL(url string) (path string, err error) {
	path, ok := strings.CutPrefix(url, scheme)
	if !ok {
		return "", fmt.Errorf("must be %sPATH, such as sqlite:data/kv_store.db; no other database is supported", scheme)
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
