package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"go.opentelemetry.io/otel/trace"
	"gorm.io/gorm"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// A Config says which database to open.
type Config struct {
	// URL is that of ParseURL.
	URL string
	// Readers is how many connections read; 0 means 8.
	Readers int
	// Backend names this process in the table of commits.
	Backend string
	// Tracer, when set, makes a span of each statement and commit that belongs to a
	// span that is recorded.
	Tracer trace.Tracer
}

// A server is the engine of an open database. But for Resolve and Close its methods are called
// by one goroutine at a time.
type server struct {
	database.Pools
	backend string
	last    last          // commit, as of Lock
	next    database.Mark // of the commit that Record has begun
}

type last struct {
	database.Mark
	clock int64
}

// Open connects to the database and makes its tables when it has none. It refuses, with an error
// that says why, a server that cannot be written or is too old, and a database that is not for this
// program or has a schema of a later version.
func Open(ctx context.Context, cfg Config) (*database.DB, error) {
	parsed, err := ParseURL(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	s := &server{backend: cfg.Backend}
	if s.Writer, err = openWriter(parsed); err != nil {
		return nil, err
	}
	if cfg.Readers == 0 {
		cfg.Readers = 8
	}
	if s.Readers, err = openReaders(parsed, cfg.Readers); err == nil {
		s.Pinger, err = openReaders(parsed, 1)
	}
	var db *database.DB
	if err == nil {
		err = refusePooler(ctx, parsed)
	}
	if err == nil {
		err = prepare(ctx, s.Writer)
	}
	if err == nil {
		db, err = database.New(ctx, s, s.Pools, cfg.Tracer)
	}
	if err == nil {
		return db, nil
	}
	if errors.Is(err, pgconn.ErrReadOnlyConnection) {
		err = fmt.Errorf("the server is a standby, or read-only by default_transaction_read_only; name the primary: %w", err)
	}
	err = errors.Join(err, s.Pools.Close())
	return nil, fmt.Errorf("open database %s: %w", Address(cfg.URL), err)
}

// Close has nothing to do: all that is held are connections.
func (*server) Close() error { return nil }

// Ready returns nil: what the server refuses it says at the write.
func (*server) Ready() error { return nil }

const (
	lockSQL = "SELECT id FROM identity WHERE id = 1 FOR NO KEY UPDATE"
	lastSQL = "SELECT seq, batch, clock FROM commits ORDER BY seq DESC LIMIT 1"
)

// Lock waits until no other backend is in a transaction of Update, for LockTimeout at most. It takes
// two statements: what a statement sees was committed before it began to wait.
func (s *server) Lock(tx *gorm.DB) (database.Mark, error) {
	if err := lock(tx); err != nil {
		return database.Mark{}, err
	}
	err := tx.Raw(lastSQL).Row().Scan(&s.last.Seq, &s.last.Batch, &s.last.clock)
	return s.last.Mark, err
}

func lock(tx *gorm.DB) error {
	var id int64
	return tx.Raw(lockSQL).Row().Scan(&id)
}

const commitSQL = `INSERT INTO commits (seq, batch, backend, revision_before, revision_after, clock,
	total_keys, total_versions, compacted, forgotten, restored, touched, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

// Record writes the row of the commit.
func (s *server) Record(tx *gorm.DB, c database.Commit) (database.Mark, error) {
	s.next = database.Mark{Seq: s.last.Seq + 1, Batch: uuid.New()}
	touched := make(byteArrays, 0, len(c.Touched))
	for _, key := range c.Touched {
		touched = append(touched, []byte(key))
	}
	t, clock := c.Totals, max(s.last.clock, int64(c.Clock))
	return s.next, tx.Exec(commitSQL, s.next.Seq, s.next.Batch[:], s.backend, c.Before, t.Revision, clock,
		t.Keys, t.Versions, t.Compacted, t.Forgotten, t.Restored, touched, c.Checksum).Error
}

const (
	// resolveTimeout bounds how long a commit is looked for whose answer was lost.
	resolveTimeout = 10 * time.Second
	resolvePause   = 100 * time.Millisecond
)

// Resolve looks for the commit of the last Record. When the connection has broken the server may
// still be at that transaction, so it waits for its lock first. It commits too: what that returns
// tells of the commit before as well, for a standby has both or lacks both.
func (s *server) Resolve(ctx context.Context, cause error) (committed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	for {
		committed, err = s.look(ctx)
		if err == nil || cause == nil {
			return committed, err
		}
		select {
		case <-ctx.Done():
			return false, err
		case <-time.After(resolvePause):
		}
	}
}

func (s *server) look(ctx context.Context) (committed bool, err error) {
	err = s.Writer.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := lock(tx); err != nil {
			return err
		}
		var batch uuid.UUID
		err := tx.Raw("SELECT batch FROM commits WHERE seq = ?", s.next.Seq).Row().Scan(&batch)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		committed = err == nil && batch == s.next.Batch
		return err
	})
	return committed && err == nil, err
}

// Scrub reports false. What was erased cannot be read any more, but the server keeps the bytes until it
// vacuums, and in its log, its standbys and its backups for longer.
func (*server) Scrub(context.Context) (gone bool, err error) { return false, nil }

// Compact is refused.
func (*server) Compact(context.Context) (kv.Compaction, error) {
	return kv.Compaction{}, &kv.Error{Kind: kv.ErrUnsupported, Detail: "PostgreSQL reuses free space by itself " +
		"(autovacuum); to give it back to the disk, whoever runs the server runs VACUUM FULL"}
}

// Copy is refused.
func (*server) Copy(context.Context) (*database.Copy, error) {
	return nil, &kv.Error{Kind: kv.ErrUnsupported, Detail: "A store on PostgreSQL cannot be downloaded yet; " +
		"use pg_dump or the backups of the server"}
}

// SizeSQL gives the size of the database with its indexes.
func (*server) SizeSQL() string { return "pg_database_size(current_database())" }

// LogBytes is 0: the write-ahead log is the server's.
func (*server) LogBytes() (int64, error) { return 0, nil }

// DiskBytes is not known: the disk is the server's.
func (*server) DiskBytes() (free, size int64, known bool) { return 0, 0, false }
