package database

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"go.opentelemetry.io/otel/trace"
	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// An Engine is what a DB runs on: the part that differs between SQLite and others, and that SQL
// does not tell. How they differ in SQL, and of which kind an error is, is in the dialector of
// the connections (see Pools).
type Engine interface {
	// Ready returns why nothing may be written now, although the connections work.
	Ready() error
	// UndoCommit returns nil when it is certain that a commit which failed with that cause has
	// left nothing. Without a cause that is for all that failed before, and shows that writes
	// work again.
	UndoCommit(ctx context.Context, cause error) error
	// Scrub takes what was erased by then off the disk, as far as the engine can.
	Scrub(ctx context.Context) error
	// Compact makes one bounded step of giving free space back to the disk.
	Compact(ctx context.Context) (kv.Compaction, error)
	// Copy makes a copy of the whole database while it is read and written. It has every
	// transaction that was committed before the call, and each later one whole or not at all.
	// The error is kv.ErrCopying while there is another copy.
	Copy(ctx context.Context) (*Copy, error)
	// SizeSQL is an expression for the size of the database in bytes.
	SizeSQL() string
	// LogBytes is the size of the write-ahead log, 0 when there is none.
	LogBytes() (int64, error)
	// DiskBytes returns how much of the disk of the database is free for this process, and its
	// size, if that is known.
	DiskBytes() (free, size int64, known bool)
	// Close gives back what the engine holds, after the connections were closed.
	Close() error
}

// Pools are the connections to a database. Their dialector must be a gorm.ErrorTranslator that
// returns the sentinel of package kv which an error of the driver is.
type Pools struct {
	Writer  *gorm.DB // one connection
	Readers *gorm.DB
	Pinger  *gorm.DB // of Ping alone, so that it waits for no other
}

// A DB is an open database. Its methods may be called from many goroutines; those
// that write run one after the other.
type DB struct {
	Engine
	writer   *gorm.DB
	readers  *gorm.DB
	pinger   *gorm.DB
	identity identity
	damage   atomic.Uint64 // see Damage
	memory   *memory
	tracer   trace.Tracer
	failing  atomic.Bool // see Failing
}

// New returns the database that the connections lead to, which has its tables (see
// CreateSchema). Close closes them, and the engine. With a tracer, each statement and commit
// that belongs to a span which is recorded has a span.
func New(ctx context.Context, engine Engine, pools Pools, tracer trace.Tracer) (*DB, error) {
	db := &DB{Engine: engine, writer: pools.Writer, readers: pools.Readers, pinger: pools.Pinger}
	var err error
	if db.identity, _, _, err = readStore(pools.Writer.WithContext(ctx), "0"); err != nil {
		return nil, fmt.Errorf("the database is damaged: its row of the store: %w", err)
	}
	if db.memory, err = newMemory(); err != nil {
		return nil, err
	}
	return db, db.trace(tracer)
}

// Close ends every connection and closes the engine.
func (db *DB) Close() error {
	return errors.Join(Pools{db.writer, db.readers, db.pinger}.Close(), db.Engine.Close())
}

// Close ends the connections that are there.
func (p Pools) Close() error {
	var failures []error
	for _, pool := range []*gorm.DB{p.Pinger, p.Readers, p.Writer} {
		if pool == nil {
			continue
		}
		conns, err := pool.DB()
		if err == nil {
			err = conns.Close()
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// StoreID identifies the store: it was made with the database and stays in it.
func (db *DB) StoreID() string { return db.identity.storeID }

// Ping reports whether the database answers a read, and could be written.
func (db *DB) Ping(ctx context.Context) error {
	if err := db.Ready(); err != nil {
		return err
	}
	var one int
	tx := db.pinger.WithContext(ctx)
	return Translate(tx, "ping", tx.Raw("SELECT id FROM store").Row().Scan(&one))
}

// Failing reports whether the last attempt to write failed since the disk reports
// errors. It is false again after the next commit, or the next Settle that works.
func (db *DB) Failing() bool { return db.failing.Load() }

// Settle returns nil when writes work, and every commit that failed before has left nothing.
func (db *DB) Settle(ctx context.Context) error {
	db.memory.mu.Lock()
	defer db.memory.mu.Unlock()
	err := db.undoLocked(ctx, nil)
	db.noteLocked(err, true)
	return err
}

func (db *DB) undoLocked(ctx context.Context, cause error) error {
	if err := db.Ready(); err != nil {
		return err
	}
	return Translate(db.writer.WithContext(ctx), "settle a commit that failed", db.UndoCommit(ctx, cause))
}

// commitFailedLocked returns what a failed commit is to the caller: an error that says
// that nothing was written, if that can be made certain now, else kv.ErrOutcomeUnknown.
func (db *DB) commitFailedLocked(ctx context.Context, cause error) error {
	db.memory.forgetLocked()
	// Not with ctx: the commit came to an end too.
	if err := db.undoLocked(context.WithoutCancel(ctx), cause); err != nil {
		return fmt.Errorf("%w: %w; and then: %v", kv.ErrOutcomeUnknown, cause, err) //nolint:errorlint // its kind is not that of the answer
	}
	return Translate(db.writer.WithContext(ctx), "commit", cause)
}

// noteLocked remembers what an attempt to write says of the disk.
func (db *DB) noteLocked(err error, committed bool) {
	switch {
	case errors.Is(err, kv.ErrDiskFailed), errors.Is(err, kv.ErrOutcomeUnknown):
		db.failing.Store(true)
	case err == nil && committed:
		db.failing.Store(false)
	}
}

// A Copy is a copy of the whole database as it was at one moment.
type Copy struct {
	Summary
	// File is the copy, from its beginning.
	File io.ReadCloser
	// Release is called by Close. Until then there is no other copy.
	Release func()
}

// Close gives the space of the copy back and lets another be made.
func (c *Copy) Close() error {
	defer c.Release()
	return c.File.Close()
}
