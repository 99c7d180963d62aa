package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// An Engine is what differs between SQLite and other databases, other than SQL and errors: for
// those see Pools.
type Engine interface {
	// Ready returns an error if nothing may be written now, although the connections work.
	Ready() error
	// Record writes the counters, as the last statement of tx, after the commit that is the last.
	// It returns the mark of the commit that follows.
	Record(tx *gorm.DB, last Mark, c Commit) (Mark, error)
	// Resolve finds out whether a commit that failed with that cause was made all the same. If
	// not, it makes sure that the commit has left nothing. The error says why that is not known.
	// With a nil cause it does so for all earlier commits, and shows that writes work.
	Resolve(ctx context.Context, cause error) (Outcome, error)
	// Scrub removes what was erased before from the disk. It reports false if the engine keeps the
	// bytes until it reuses their space by itself.
	Scrub(ctx context.Context) (gone bool, err error)
	// Compact gives some free space back to the disk, in one bounded step.
	Compact(ctx context.Context) (kv.Compaction, error)
	// Copy copies the whole database while it is in use. The copy has every transaction that was
	// committed before the call, and each later one whole or not at all.
	Copy(ctx context.Context) (*Copy, error)
	// SizeSQL is an expression for the size of the database in bytes.
	SizeSQL() string
	// LogBytes is the size of the write-ahead log, 0 if there is none.
	LogBytes() (int64, error)
	// DiskBytes returns the space that is free for this process on the disk of the database, and
	// the size of the disk, if they are known.
	DiskBytes() (free, size int64, known bool)
	// Close releases what the engine holds, after the connections were closed.
	Close() error
}

// An Outcome is what became of a commit that failed.
type Outcome int

// Outcomes.
const (
	Refused Outcome = iota // the cause tells that nothing was written
	Lost                   // it was found that nothing was
	Made                   // it was found that the commit is durable
)

// A Mark names a commit by its number and by an id that no other commit has: after an engine has
// lost a commit, another gets its number. An engine with one writer has the zero Mark alone.
type Mark struct {
	Seq   int64
	Batch uuid.UUID
}

// A Commit is what an engine stores of a transaction of Update besides rows of keys and versions.
type Commit struct {
	// Before is the revision of the store before the transaction.
	Before int64
	// Totals are the counters after it. Checksum is that of their row; see Identity.
	Totals   kv.Totals
	Checksum int64
	// Clock is the latest time of a version up to this commit. It is 0 on an engine with one writer.
	Clock kv.Timestamp
	// Losses are what the transaction has destroyed and erased.
	Losses []Loss
}

// A Loss is what a transaction has taken from a key that a cache or a feed may still hold.
type Loss struct {
	Key string `json:"key"`
	// Versions were destroyed. Without any, all were erased that came before the transaction.
	Versions []int64 `json:"versions,omitempty"`
	// End is the version of kv.OpDestroy that the transaction has appended and may have erased too.
	End *End `json:"end,omitempty"`
}

// An End is the last version of a key that is erased.
type End struct {
	Version  int64  `json:"version"`
	Revision int64  `json:"revision"`
	Time     int64  `json:"time"` // Unix microseconds
	Author   string `json:"author,omitempty"`
}

// A Shared engine is one on which other processes may write the same store. Its methods may be called
// concurrently with all others.
type Shared interface {
	Engine
	// Lock keeps other processes from writing until tx, which Update has just begun, ends. It
	// returns the last commit without its losses, and the time of the engine. When brief is set, a
	// process that stands still loses the lock, and the transaction, at once.
	Lock(tx *gorm.DB, brief bool) (last Committed, now kv.Timestamp, err error)
	// Append writes rows, and the row of their commit, in one statement. Where tx is no transaction
	// that is the commit. It returns the mark of the commit, also with an error, and the time of
	// the engine. The error is ErrBehind, with nothing written, unless last is the last commit and
	// the time is before until.
	Append(tx *gorm.DB, last Mark, until kv.Timestamp, c Commit, r Rows) (Mark, kv.Timestamp, error)
	// Last returns the mark of the last commit, and the time of the engine.
	Last(tx *gorm.DB) (Mark, kv.Timestamp, error)
	// Commits returns the commits after that mark, in their order, limit at most. The error is
	// ErrRewritten when the engine has another commit of that number, or none of it or a later one,
	// and ErrForgotten when it keeps only later ones.
	Commits(tx *gorm.DB, after Mark, limit int) ([]Committed, error)
	// Forget removes commits that are older than that, which Commits is not asked for any more. The
	// last one stays.
	Forget(ctx context.Context, age time.Duration) error
	// Listen calls wake soon after each commit of another process, until ctx ends. Some calls may be
	// missing.
	Listen(ctx context.Context, wake func())
	// Lease reports whether this process holds the lease of the store, and prolongs it then. Without a
	// holder it becomes the holder. After length another process may get the lease.
	Lease(ctx context.Context, length time.Duration) (held bool, err error)
	// Describe tells of the server.
	Describe(ctx context.Context) (Description, error)
}

// A Description tells of the server of a shared engine.
type Description struct {
	Version string
	// Address is its hosts and its database.
	Address string
	// Synchronous means that a commit waits for standbys. Standbys counts those that are connected,
	// if that is known.
	Synchronous   bool
	Standbys      int
	StandbysKnown bool
}

var (
	// ErrBehind is the error of a commit that came after one of another process.
	ErrBehind = fmt.Errorf("%w: another process has written meanwhile", kv.ErrUnavailable)
	// ErrAgain is the error of a transaction that may succeed when it is run again: the connection
	// has ended, or the engine has refused a statement because of another transaction, or the one
	// of Append.
	ErrAgain = fmt.Errorf("%w: it is tried again", kv.ErrUnavailable)
)

// ErrRewritten means that the engine has lost commits that it had made durable.
var ErrRewritten = errors.New("the history was rewritten: the engine has lost commits")

// ErrForgotten means that the engine does not keep a commit any more.
var ErrForgotten = errors.New("the commit is not kept any more")

// A Committed is a commit that was made.
type Committed struct {
	Mark
	Commit
}

// Pools are the connections to a database. Their dialector is also a gorm.ErrorTranslator, which
// returns the sentinel of package kv for an error of the driver.
type Pools struct {
	Writer  *gorm.DB // one connection
	Readers *gorm.DB
	Pinger  *gorm.DB // for Ping, which so waits for no other read
	Index   *gorm.DB // for Follow, one connection; nil unless the engine is shared
}

// A DB is an open database. Its methods may be called concurrently; those that write run one after
// the other.
type DB struct {
	Engine
	writer   *gorm.DB
	readers  *gorm.DB
	pinger   *gorm.DB
	index    *gorm.DB
	identity Identity
	damage   atomic.Uint64 // see Damage
	memory   *memory
	chain    chain
	tracer   trace.Tracer
	failing  atomic.Bool // see Failing
	copying  sync.Mutex  // held while there is a Copy
}

// New returns the database of those connections, which has its tables (see CreateSchema). Close
// closes connections and engine. With a tracer, each statement and commit within a recorded span
// has a span.
func New(ctx context.Context, engine Engine, pools Pools, tracer trace.Tracer) (*DB, error) {
	db := &DB{Engine: engine, writer: pools.Writer, readers: pools.Readers, pinger: pools.Pinger, index: pools.Index}
	var err error
	if db.identity, _, _, err = readStore(pools.Writer.WithContext(ctx), "0"); err != nil {
		return nil, fmt.Errorf("the database is damaged: its row of the store: %w", err)
	}
	if db.memory, err = newMemory(); err != nil {
		return nil, err
	}
	return db, db.trace(tracer)
}

// Close closes all connections and the engine.
func (db *DB) Close() error {
	return errors.Join(Pools{db.writer, db.readers, db.pinger, db.index}.Close(), db.Engine.Close())
}

// Close closes the connections that are not nil.
func (p Pools) Close() error {
	var failures []error
	for _, pool := range []*gorm.DB{p.Index, p.Pinger, p.Readers, p.Writer} {
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

// PoolStats tells of the pools of connections, by name.
func (db *DB) PoolStats() map[string]sql.DBStats {
	stats := map[string]sql.DBStats{}
	for name, pool := range map[string]*gorm.DB{"writer": db.writer, "readers": db.readers, "pinger": db.pinger, "index": db.index} {
		if pool == nil {
			continue
		}
		if conns, err := pool.DB(); err == nil {
			stats[name] = conns.Stats()
		}
	}
	return stats
}

// StoreID identifies the store for as long as the database exists.
func (db *DB) StoreID() string { return db.identity.StoreID }

// Ping returns nil if the database answers a read and may be written.
func (db *DB) Ping(ctx context.Context) error {
	if err := db.Ready(); err != nil {
		return err
	}
	var one int
	tx := db.pinger.WithContext(ctx)
	return Translate(tx, "ping", tx.Raw("SELECT id FROM store").Row().Scan(&one))
}

// Failing reports whether the last attempt to write failed because of the disk. A commit or Settle
// that succeeds ends it.
func (db *DB) Failing() bool { return db.failing.Load() }

// Settle returns nil if writes work and every failed commit has left nothing.
func (db *DB) Settle(ctx context.Context) error {
	db.memory.mu.Lock()
	defer db.memory.mu.Unlock()
	_, err := db.resolveLocked(ctx, nil)
	db.noteLocked(err, true)
	return err
}

func (db *DB) resolveLocked(ctx context.Context, cause error) (Outcome, error) {
	if err := db.Ready(); err != nil {
		return Refused, err
	}
	outcome, err := db.Resolve(ctx, cause)
	return outcome, Translate(db.writer.WithContext(ctx), "settle a commit that failed", err)
}

// commitFailedLocked returns the error for a failed commit, or nil if it was made all the same. The
// error is kv.ErrOutcomeUnknown unless it is now certain that nothing was written.
func (db *DB) commitFailedLocked(ctx context.Context, cause error) error {
	db.memory.forgetLocked()
	// Without ctx, which did not end the commit either.
	outcome, err := db.resolveLocked(context.WithoutCancel(ctx), cause)
	db.chain.resolved(outcome, err)
	switch {
	case err != nil:
		//nolint:errorlint // the kind of err is not that of the answer
		return fmt.Errorf("%w: %w; and then: %v", kv.ErrOutcomeUnknown, cause, err)
	case outcome == Made:
		return nil
	default:
		return Translate(db.writer.WithContext(ctx), "commit", cause)
	}
}

// noteLocked notes the result of an attempt to write for Failing.
func (db *DB) noteLocked(err error, committed bool) {
	switch {
	case errors.Is(err, kv.ErrDiskFailed), errors.Is(err, kv.ErrOutcomeUnknown):
		db.failing.Store(true)
	case err == nil && committed:
		db.failing.Store(false)
	}
}

// Copy is that of the engine. The error is kv.ErrCopying until the last Copy is closed.
func (db *DB) Copy(ctx context.Context) (*Copy, error) {
	if !db.copying.TryLock() {
		return nil, &kv.Error{Kind: kv.ErrCopying, Detail: "Another backup is being made or sent; there is one at a time"}
	}
	made, err := db.Engine.Copy(ctx)
	if err != nil {
		db.copying.Unlock()
		return nil, err
	}
	made.release = db.copying.Unlock
	return made, nil
}

// A Copy is a copy of the whole database as it was at one moment.
type Copy struct {
	Summary
	// File reads the copy from its beginning.
	File    io.ReadCloser
	release func()
}

// Close frees the space of the copy. Another one can be made then.
func (c *Copy) Close() error {
	defer c.release()
	return c.File.Close()
}
