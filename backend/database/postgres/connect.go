package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	gormpostgres "gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/migrator"
	"gorm.io/gorm/schema"
)

const (
	// connectTimeout bounds how long one server is tried. Three fit into a transaction.
	connectTimeout = 3 * time.Second
	// transactionTimeout bounds a transaction that writes, its commit among it.
	transactionTimeout = 10 * time.Second
	// LockTimeout bounds how long a statement waits for the lock of another backend.
	LockTimeout = 5 * time.Second
	// applicationName is the name of connections whose URL and PGAPPNAME give none.
	applicationName = "kvstore"
	// idleTimeout bounds how long a backend that stands still keeps others from writing. briefIdle does so
	// for a transaction that has nothing to do but to stage its rows.
	idleTimeout = 3 * time.Second
	briefIdle   = 50 * time.Millisecond
)

// errUnreplicated is the error of a commit for which the server has stopped waiting for a standby.
var errUnreplicated = errors.New("the server has committed, and has stopped waiting until a standby has the commit too")

// ParseURL returns what a database URL says: postgres://USER:PASSWORD@HOST:PORT/DATABASE?PARAMETERS, where
// HOST:PORT may be a list with commas, and the parameters are those of libpq. The error does not
// have the password.
func ParseURL(raw string) (*pgx.ConnConfig, error) {
	const unclear = "is not a URL, as in postgres://user:password@host/database; " +
		"in a user name and a password, characters such as @ : / ? # % are written as %40 %3A %2F %3F %23 %25"
	parsed, err := url.Parse(raw)
	if err != nil || parsed.User == nil && strings.Contains(raw, "@") { // a part of the password may be elsewhere
		return nil, errors.New(unclear)
	}
	if parsed.Scheme != "postgres" && parsed.Scheme != "postgresql" {
		return nil, errors.New("must begin with postgres:// or postgresql://")
	}
	cfg, err := pgx.ParseConfig(raw)
	if err != nil {
		_, cause, found := strings.Cut(err.Error(), "`: ") // before it stands the URL
		if !found {
			cause = unclear
		}
		return nil, errors.New(cause)
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = applicationName
	}
	if cfg.ConnectTimeout == 0 || cfg.ConnectTimeout > connectTimeout {
		cfg.ConnectTimeout = connectTimeout
	}
	// Reads too must come from the server that writes: a standby lags behind it.
	cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	cfg.OnPgError = func(_ *pgconn.PgConn, err *pgconn.PgError) (keep bool) {
		return err.SeverityUnlocalized != "FATAL" && err.Code != readOnlyTransaction
	}
	return cfg, nil
}

// Address is a database URL without password and parameters, "" for one that ParseURL refuses.
func Address(raw string) string {
	if _, err := ParseURL(raw); err != nil {
		return ""
	}
	parsed, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	shown := url.URL{Scheme: parsed.Scheme, Host: parsed.Host, Path: parsed.Path}
	if name := parsed.User.Username(); name != "" {
		shown.User = url.User(name)
	}
	return shown.String()
}

// hosts is an Address without the user.
func hosts(raw string) string {
	parsed, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return parsed.Host + parsed.Path
}

// A pool is connections of one kind.
type pool struct {
	*sql.DB
	transactions sql.TxOptions
	timeout      time.Duration // of a transaction, 0 is none
	unreplicated atomic.Bool   // a commit of the current transaction was not waited for
}

// openWriter opens the connection that writes.
func openWriter(cfg *pgx.ConnConfig) (*gorm.DB, error) {
	p := &pool{timeout: transactionTimeout, transactions: sql.TxOptions{Isolation: sql.LevelReadCommitted}}
	return p.openAlone(cfg, idleTimeout)
}

// openAlone opens one connection, whose transactions may idle as long; 0 is forever.
func (p *pool) openAlone(cfg *pgx.ConnConfig, idle time.Duration) (*gorm.DB, error) {
	cfg = cfg.Copy()
	cfg.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
		if notice.Routine == "SyncRepWaitForLSN" { // the text may be in any language
			p.unreplicated.Store(true)
		}
	}
	// A setting of the role or the database that is off would make success of what is not durable.
	// Startup parameters would be shorter, but poolers refuse those that they do not know.
	// To plan the statement of a commit takes longer than to run it, and its plan is always the same.
	const settings = `SELECT set_config('lock_timeout', $1, false),
		set_config('idle_in_transaction_session_timeout', $2, false),
		set_config('plan_cache_mode', 'force_generic_plan', false),
		set_config('default_transaction_isolation', 'read committed', false),
		set_config('synchronous_commit',
			CASE WHEN setting = 'off' THEN 'on' ELSE setting END, false)
		FROM current_setting('synchronous_commit') AS setting`
	limits := [][]byte{milliseconds(LockTimeout), milliseconds(idle)}
	cfg.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		return conn.ExecParams(ctx, settings, limits, nil, nil, nil).Read().Err
	}
	return p.open(cfg, 1)
}

func milliseconds(d time.Duration) []byte { return fmt.Append(nil, d.Milliseconds()) }

// openReaders opens a pool of n connections, whose transactions read as of one moment.
func openReaders(cfg *pgx.ConnConfig, n int) (*gorm.DB, error) {
	p := &pool{transactions: sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}}
	return p.open(cfg, n)
}

// openPinger opens a reader that fails once the server is read-only, as a new connection does.
func openPinger(cfg *pgx.ConnConfig) (*gorm.DB, error) {
	p := &pool{}
	return p.open(cfg, 1, stdlib.OptionResetSession(func(ctx context.Context, conn *pgx.Conn) error {
		if pgconn.ValidateConnectTargetSessionAttrsReadWrite(ctx, conn.PgConn()) != nil {
			return driver.ErrBadConn
		}
		return nil
	}))
}

// planning are settings for the planner, where they exist. A plan that was made for a small table stays
// for a while when the table grows, and is a bad one then unless it finds each row by an index.
const planning = `SELECT set_config(name, 'off', false) FROM pg_settings
	WHERE name IN ('enable_seqscan', 'enable_hashjoin', 'enable_mergejoin', 'jit')`

func (p *pool) open(cfg *pgx.ConnConfig, n int, options ...stdlib.OptionOpenDB) (*gorm.DB, error) {
	cfg = cfg.Copy()
	dial, set := cfg.DialFunc, cfg.AfterConnect
	cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return &impatientConn{Conn: conn}, err
	}
	cfg.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		err := conn.ExecParams(ctx, planning, nil, nil, nil, nil).Read().Err
		if err == nil && set != nil {
			err = set(ctx, conn)
		}
		return err
	}
	p.DB = stdlib.OpenDB(*cfg, append(options, stdlib.OptionShouldPing(isGone))...)
	p.SetMaxOpenConns(n)
	p.SetMaxIdleConns(n)
	db, err := gorm.Open(dialector{gormpostgres.New(gormpostgres.Config{Conn: p})}, &gorm.Config{
		SkipDefaultTransaction: true,
		DisableAutomaticPing:   true,
		Logger:                 logger.Discard, // errors are returned, and logged once, above
	})
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return db, nil
}

// isGone reports whether a connection that was idle is of no use any more. It is closed then, so that the
// driver takes another. Else nobody could tell whether a write that finds it closed was received.
func isGone(ctx context.Context, p stdlib.ShouldPingParams) bool {
	if p.IdleDuration < time.Second && !hasInput(p.Conn.PgConn().Conn()) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return p.Conn.PgConn().Ping(ctx) != nil
}

// GetDBConn lets GORM find what is to be closed.
func (p *pool) GetDBConn() (*sql.DB, error) { return p.DB, nil }

// BeginTx begins a transaction of the kind of the pool.
func (p *pool) BeginTx(ctx context.Context, _ *sql.TxOptions) (gorm.ConnPool, error) {
	cancel := func() {}
	if p.timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, p.timeout)
	}
	p.unreplicated.Store(false)
	tx, err := p.DB.BeginTx(ctx, &p.transactions)
	if err != nil {
		cancel()
		return nil, err
	}
	return &transaction{tx, p, cancel}, nil
}

// replicated returns nil unless the server has stopped waiting for a standby at the last commit.
func (p *pool) replicated() error {
	if p.unreplicated.Load() {
		return errUnreplicated
	}
	return nil
}

type transaction struct {
	*sql.Tx
	pool   *pool
	cancel context.CancelFunc
}

// Commit returns nil when the commit is as durable as the server is told to make it.
func (t *transaction) Commit() error {
	defer t.cancel()
	if err := t.Tx.Commit(); err != nil {
		return err
	}
	return t.pool.replicated()
}

func (t *transaction) Rollback() error {
	defer t.cancel()
	return t.Tx.Rollback()
}

// dialector is GORM's for PostgreSQL, but for what this package needs otherwise.
type dialector struct{ gorm.Dialector }

// Name is that of OpenTelemetry's conventions.
func (dialector) Name() string { return "postgresql" }

// BindVarTo writes the place of a variable. A string becomes bytes: for a column of bytes, as keys
// are, the driver would send the text of a literal, in which \ is special. It takes bytes for a text
// as they are.
func (d dialector) BindVarTo(writer clause.Writer, stmt *gorm.Statement, v any) {
	if text, ok := v.(string); ok {
		stmt.Vars[len(stmt.Vars)-1] = []byte(text)
	}
	d.Dialector.BindVarTo(writer, stmt, v)
}

// Translate returns the sentinel of package kv that an error is.
func (dialector) Translate(err error) error { return kindOf(err) }

// DataTypeOf makes bytes of a key, whose order then is that of its bytes.
func (d dialector) DataTypeOf(field *schema.Field) string {
	if field.DataType == "blob" || field.DBName == "key" {
		return "bytea"
	}
	return d.Dialector.DataTypeOf(field)
}

// Migrator is GORM's, with the types of d.
func (d dialector) Migrator(db *gorm.DB) gorm.Migrator {
	return gormpostgres.Migrator{Migrator: migrator.Migrator{Config: migrator.Config{
		DB: db, Dialector: d, CreateIndexAfterCreateTable: true,
	}}}
}
