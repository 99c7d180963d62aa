package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
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
	// Backend names this process in the tables of commits and of members, Program is its version.
	Backend, Program string
	// Export makes a copy of what a source has, for Copy; without it Copy is refused.
	Export func(context.Context, database.Source) (*database.Copy, error)
	// Tracer, when set, makes a span of each statement and commit that belongs to a
	// span that is recorded.
	Tracer trace.Tracer
}

// A server is the engine of an open database. But for Resolve and Close its methods are called
// by one goroutine at a time.
type server struct {
	database.Pools
	url     string
	connect *pgx.ConnConfig // for Listen
	member  *member
	backend string
	process string // an id that no other process has
	export  func(context.Context, database.Source) (*database.Copy, error)
	arrays  *pgtype.Map   // for Commits
	next    database.Mark // of the commit that was begun last
}

// Open connects to the database and makes its tables when it has none. It refuses, with an error
// that says why, a server that cannot be written or is too old, and a database that is not for this
// program or has a schema of a later version.
func Open(ctx context.Context, cfg Config) (*database.DB, error) {
	parsed, err := ParseURL(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	s := &server{
		url: cfg.URL, connect: parsed, backend: cfg.Backend, process: uuid.NewString(), export: cfg.Export, arrays: pgtype.NewMap(),
	}
	if s.Writer, err = openWriter(parsed); err != nil {
		return nil, err
	}
	if cfg.Readers == 0 {
		cfg.Readers = 8
	}
	if s.Readers, err = openReaders(parsed, cfg.Readers); err == nil {
		s.Pinger, err = openPinger(parsed)
	}
	if err == nil {
		s.Index, err = openReaders(parsed, 1)
	}
	var db *database.DB
	if err == nil {
		err = refusePooler(ctx, parsed)
	}
	if err == nil {
		err = prepare(ctx, s.Writer)
	}
	if err == nil {
		s.member, err = join(ctx, s.Pools, memberRow{ID: s.process, Backend: cfg.Backend, Program: cfg.Program})
	}
	if err == nil {
		if db, err = database.New(ctx, s, s.Pools, cfg.Tracer); err == nil {
			return db, nil
		}
		s.member.leave()
	}
	return nil, fmt.Errorf("open database %s: %w", Address(cfg.URL), errors.Join(explained(err), s.Pools.Close()))
}

// explained says of an error that refuses a standby what to do.
func explained(err error) error {
	if errors.Is(err, pgconn.ErrReadOnlyConnection) {
		err = fmt.Errorf("the server is a standby, or read-only by default_transaction_read_only; name the primary: %w", err)
	}
	return err
}

// Close ends what runs beside the connections.
func (s *server) Close() error {
	s.member.leave()
	return nil
}

// Ready returns nil unless the tables are not for this program any more: what the server refuses it says
// at the write.
func (s *server) Ready() error {
	if s.member.outdated.Load() {
		return errOutdated
	}
	return nil
}

const (
	lockSQL = "SELECT id FROM identity WHERE id = 1 FOR NO KEY UPDATE"
	// holdSQL is lockSQL for a transaction that may idle for a time of its own.
	holdSQL = `SELECT id FROM identity WHERE id = 1
		AND set_config('idle_in_transaction_session_timeout', ?, true) <> '' FOR NO KEY UPDATE`
	// clockSQL is the time of the server in Unix microseconds.
	clockSQL = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"
	// nowSQL is that, but never before the time of the last commit.
	nowSQL  = "greatest(" + clockSQL + ", clock)"
	lastSQL = `SELECT seq, batch, revision_after, clock, total_keys, total_versions, compacted, forgotten,
		restored, checksum, ` + nowSQL + " FROM commits ORDER BY seq DESC LIMIT 1"
)

// Lock waits until no other backend is in a transaction of Update, for LockTimeout at most. It takes
// two statements: what a statement sees was committed before it began to wait.
func (s *server) Lock(tx *gorm.DB, brief bool) (last database.Committed, now kv.Timestamp, err error) {
	if brief {
		err = lock(tx, holdSQL, string(milliseconds(briefIdle)))
	} else {
		err = lock(tx, lockSQL)
	}
	if err != nil {
		return last, 0, err
	}
	t := &last.Totals
	err = tx.Raw(lastSQL).Row().Scan(&last.Seq, &last.Batch, &t.Revision, &last.Clock, &t.Keys, &t.Versions,
		&t.Compacted, &t.Forgotten, &t.Restored, &last.Checksum, &now)
	return last, now, err
}

func lock(tx *gorm.DB, query string, args ...any) error {
	var id int64
	return tx.Raw(query, args...).Row().Scan(&id)
}

// Record writes the row of the commit.
func (s *server) Record(tx *gorm.DB, last database.Mark, c database.Commit) (database.Mark, error) {
	row, err := s.begin(last, c)
	if err != nil {
		return s.next, err
	}
	return s.next, tx.Exec(recordSQL, append(row, s.process)...).Error
}

const (
	// resolveTimeout bounds how long a commit is looked for whose answer was lost.
	resolveTimeout = 10 * time.Second
	resolvePause   = 100 * time.Millisecond
)

// Resolve looks for the commit that was begun last. When the connection has broken the server may
// still be at that transaction, so it waits for its lock first. It commits too: what that returns
// tells of the commit before as well, for a standby has both or lacks both.
func (s *server) Resolve(ctx context.Context, cause error) (outcome database.Outcome, err error) {
	if leavesNothing(cause) {
		return database.Refused, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	for {
		outcome, err = s.look(ctx)
		if err == nil || cause == nil {
			return outcome, err
		}
		select {
		case <-ctx.Done():
			return outcome, err
		case <-time.After(resolvePause):
		}
	}
}

func (s *server) look(ctx context.Context) (outcome database.Outcome, err error) {
	return outcome, s.Writer.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := lock(tx, lockSQL); err != nil {
			return err
		}
		var batch uuid.UUID
		err := tx.Raw("SELECT batch FROM commits WHERE seq = ?", s.next.Seq).Row().Scan(&batch)
		if outcome = database.Lost; batch == s.next.Batch {
			outcome = database.Made
		}
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
}

// Last asks the primary.
func (*server) Last(tx *gorm.DB) (database.Mark, kv.Timestamp, error) { return lastCommit(tx) }

func lastCommit(tx *gorm.DB) (mark database.Mark, now kv.Timestamp, err error) {
	err = tx.Raw("SELECT seq, batch, "+nowSQL+" FROM commits ORDER BY seq DESC LIMIT 1").Row().Scan(&mark.Seq, &mark.Batch, &now)
	return mark, now, err
}

const commitsSQL = `SELECT seq, batch, revision_before, revision_after, clock, total_keys, total_versions,
	compacted, forgotten, restored, touched, checksum FROM commits WHERE seq >= ? ORDER BY seq LIMIT ?`

// Commits reads rows of the table of commits.
func (s *server) Commits(tx *gorm.DB, after database.Mark, limit int) (found []database.Committed, err error) {
	rows, err := tx.Raw(commitsSQL, after.Seq, limit+1).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has told
	for rows.Next() {
		c, err := s.scanCommit(rows)
		if err != nil {
			return nil, err
		}
		found = append(found, c)
	}
	switch err := rows.Err(); {
	case err != nil:
		return nil, err
	case len(found) > 0 && found[0].Mark == after:
		return found[1:], nil
	case len(found) > 0 && found[0].Seq > after.Seq:
		return nil, database.ErrForgotten
	default:
		return nil, database.ErrRewritten
	}
}

func (s *server) scanCommit(rows *sql.Rows) (c database.Committed, err error) {
	var touched [][]byte
	t := &c.Totals
	err = rows.Scan(&c.Seq, &c.Batch, &c.Before, &t.Revision, &c.Clock, &t.Keys, &t.Versions,
		&t.Compacted, &t.Forgotten, &t.Restored, s.arrays.SQLScanner(&touched), &c.Checksum)
	for _, text := range touched {
		var loss database.Loss
		err = errors.Join(err, json.Unmarshal(text, &loss))
		c.Losses = append(c.Losses, loss)
	}
	return c, err
}

// Scrub reports false. What was erased cannot be read any more, but the server keeps the bytes until it
// vacuums, and in its log, its standbys and its backups for longer.
func (*server) Scrub(context.Context) (gone bool, err error) { return false, nil }

// Compact is refused.
func (*server) Compact(context.Context) (kv.Compaction, error) {
	return kv.Compaction{}, &kv.Error{Kind: kv.ErrUnsupported, Detail: "PostgreSQL reuses free space by itself " +
		"(autovacuum); to give it back to the disk, whoever runs the server runs VACUUM FULL"}
}

// Copy reads all rows on a connection of its own, in one transaction, which no write waits for.
func (s *server) Copy(ctx context.Context) (*database.Copy, error) {
	if s.export == nil {
		return nil, &kv.Error{Kind: kv.ErrUnsupported, Detail: "This program makes no copies; use pg_dump or the backups of the server"}
	}
	made, err := s.export(ctx, Snapshot(s.url))
	if kv.ClassOf(err) == kv.ClassOther { // such as that of a connection
		err = database.Translate(s.Readers.WithContext(ctx), "copy the database", err)
	}
	return made, err
}

// SizeSQL gives the size of the database with its indexes.
func (*server) SizeSQL() string { return "pg_database_size(current_database())" }

// LogBytes is 0: the write-ahead log is the server's.
func (*server) LogBytes() (int64, error) { return 0, nil }

// DiskBytes is not known: the disk is the server's.
func (*server) DiskBytes() (free, size int64, known bool) { return 0, 0, false }
