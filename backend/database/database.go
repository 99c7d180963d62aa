package database

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/trace"
	"gorm.io/gorm"

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

// A DB is an open database. Its methods may be called from many goroutines; those
// that write run one after the other.
type DB struct {
	writer   *gorm.DB
	readers  *gorm.DB
	pinger   *gorm.DB // one reader that only Ping has, so that it waits for no other
	lock     *Lock
	pages    *os.File // see openPages
	passes   passes   // of Scrub
	path     string
	copying  sync.Mutex // held while there is a Copy
	identity identity
	damage   atomic.Uint64 // see Damage
	memory   *memory
	tracer   trace.Tracer
	failing  atomic.Bool // see Failing
}

// Open locks the database, checks it and returns it; it makes one that is missing. It
// refuses, with an error that says why, a file that another process holds, that is
// damaged, cannot be written, is no database of this program, or has a schema of another
// version. A refused file is left as it was.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	path, err := ParseURL(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("database URL %q: %w", cfg.URL, err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("database URL %q: %w", cfg.URL, err)
	}
	db := &DB{path: path, passes: passes{turn: make(chan struct{}, 1)}}
	if err := db.open(ctx, path, cfg); err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, errors.Join(err, db.Close()))
	}
	return db, nil
}

func (db *DB) open(ctx context.Context, path string, cfg Config) (err error) {
	if err := prepareFile(path); err != nil {
		return err
	}
	if db.lock, err = AcquireLock(path); err != nil {
		return err
	}
	if err := refuseHalfRestored(path); err != nil {
		return err
	}
	for _, left := range []string{copySuffix, partialSuffix} { // by a process that was killed
		removeDatabase(path + left)
	}
	if db.pages, err = openPages(path); err != nil {
		return err
	}
	// The check comes before the writer, which would change the journal mode of
	// a file that is not ours.
	var found finding
	if err := withReader(path, func(reader *gorm.DB) (err error) {
		if found, err = checkFile(reader.WithContext(ctx)); err == nil && found.small {
			found.damage, err = checkRows(reader.WithContext(ctx))
		}
		return err
	}); err != nil {
		return err
	}
	if found.damage != nil && found.damage.all > 0 {
		cfg.Logger.Error("rows of the database are damaged; they are not served, and the others are", "path", path,
			"rows", found.damage.all, "damage", found.damage.named)
		db.damage.Add(uint64(found.damage.all))
	}
	if !found.whole {
		cfg.Logger.Info("the database is large and is not read whole at the start; the command \"check\" does that", "path", path)
	}
	if db.writer, err = openWriter(path, found.isNew, cfg.ConnectHook); err != nil {
		return err
	}
	if err := db.moveLog(ctx, cfg.Logger); err != nil {
		return err
	}
	if found.isNew {
		if err := createSchema(ctx, db.writer); err != nil {
			return fmt.Errorf("create the tables: %w", err)
		}
	}
	if err := db.mapPages(ctx, cfg.Logger); err != nil {
		return fmt.Errorf("rewrite the file: %w", err)
	}
	if db.identity, _, _, err = readStore(db.writer.WithContext(ctx), "0"); err != nil {
		return fmt.Errorf("the database file is damaged: its row of the store: %w", err)
	}
	if db.memory, err = newMemory(); err != nil {
		return err
	}
	if db.readers, err = openReaders(path, readerCount(cfg.Readers), db.inPlace); err != nil {
		return err
	}
	if db.pinger, err = openReaders(path, 1, db.inPlace); err != nil {
		return err
	}
	return db.trace(cfg.Tracer)
}

func readerCount(configured int) int {
	if configured > 0 {
		return configured
	}
	return max(4, 2*runtime.GOMAXPROCS(0))
}

// Close ends every connection and gives the lock back. The last connection moves
// the write-ahead log into the file.
func (db *DB) Close() error {
	var failures []error
	for _, pool := range []*gorm.DB{db.pinger, db.readers, db.writer} {
		if pool == nil {
			continue
		}
		conns, err := pool.DB()
		if err == nil {
			err = conns.Close()
		}
		failures = append(failures, err)
	}
	if db.pages != nil {
		if err := db.pages.Close(); !errors.Is(err, os.ErrClosed) { // a second Close does nothing
			failures = append(failures, err)
		}
	}
	if db.lock != nil {
		failures = append(failures, db.lock.Release())
	}
	return errors.Join(failures...)
}

// StoreID identifies the store: it was made with the file and stays in it.
func (db *DB) StoreID() string { return db.identity.storeID }

// Ping reports whether the database answers a read, and its file is still where it
// was.
func (db *DB) Ping(ctx context.Context) error {
	if err := db.inPlace(); err != nil {
		return err
	}
	var one int
	return translate(ctx, "ping", db.pinger.WithContext(ctx).Raw("SELECT id FROM store").Row().Scan(&one))
}

// inPlace returns nil when the file that is open is still the one that has the name of
// the database. After it was moved, removed or replaced, what is written goes to a file
// that no later start would find, so nothing may be written and answered.
func (db *DB) inPlace() error {
	opened, err := db.pages.Stat()
	if errors.Is(err, os.ErrClosed) { // the database is closed, which what comes next tells
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the database file: %w: %w", kv.ErrUnavailable, err)
	}
	named, err := os.Stat(db.path)
	if err == nil && os.SameFile(named, opened) {
		return nil
	}
	return &kv.Error{Kind: kv.ErrUnavailable, Detail: "The database file was moved, removed or replaced while the service runs; " +
		"nothing is written until the service is restarted"}
}
