package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// notifyTimeout bounds how long a notification may take through a pooler that keeps sessions.
const notifyTimeout = 5 * time.Second

var errPooler = errors.New("between the server and this program is a pooler that keeps no session beyond a " +
	"transaction, as pgbouncer with pool_mode = transaction or statement: settings, prepared statements and LISTEN " +
	"do not work there; let it use pool_mode = session, or name the server itself")

// refusePooler returns an error if a pooler gives the connection of a session to other clients between
// transactions.
func refusePooler(ctx context.Context, cfg *pgx.ConnConfig) error {
	listener, err := pgconn.ConnectConfig(ctx, &cfg.Config)
	if err != nil {
		return err
	}
	defer listener.Close(ctx) //nolint:errcheck // it has told what it knows
	// A server names its own process when it accepts a connection, a pooler something else.
	results, err := listener.Exec(ctx, "SELECT pg_backend_pid()").ReadAll()
	if err != nil || string(results[0].Rows[0][0]) == strconv.FormatUint(uint64(listener.PID()), 10) {
		return err
	}
	// What one connection is notified of by another arrives only where its session stays.
	notifier, err := pgconn.ConnectConfig(ctx, &cfg.Config)
	if err != nil {
		return err
	}
	defer notifier.Close(ctx) //nolint:errcheck // it has told what it knows
	channel := fmt.Sprintf("kvstore_pooler_%d", listener.PID())
	switch _, err := listener.Exec(ctx, "LISTEN "+channel).ReadAll(); {
	case codeOf(err) == featureNotSupported: // not PostgreSQL itself
		return nil
	case err != nil:
		return err
	}
	if _, err := notifier.Exec(ctx, "NOTIFY "+channel).ReadAll(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, notifyTimeout)
	defer cancel()
	if err := listener.WaitForNotification(ctx); err != nil {
		return fmt.Errorf("%w (%w)", errPooler, err)
	}
	return nil
}
