package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"kvstore/backend/database"
)

// channel is that of the notifications of commits. Their payload names the process that commits.
const channel = "kvstore_commit"

// Listen calls wake after each commit of another process, and when it has connected, until ctx ends.
// Without notifications it does nothing: they are only a hint.
func (s *server) Listen(ctx context.Context, wake func()) {
	for ctx.Err() == nil {
		_ = s.listen(ctx, wake) // what ends it shows itself at the other connections too
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (s *server) listen(ctx context.Context, wake func()) error {
	conn, err := pgx.ConnectConfig(ctx, s.connect)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // there is nothing to lose
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	for wake(); ; {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		if n.Payload != s.process {
			wake()
		}
	}
}

// localSQL lets a statement that changes nothing of the store commit without a standby.
const localSQL = "local AS (SELECT set_config('synchronous_commit', 'local', true))"

const (
	leaseSQL = "WITH " + localSQL + `, now AS (SELECT ` + clockSQL + ` AS time)
		UPDATE lease SET holder = ?, until = now.time + ? FROM local, now
		WHERE lease.id = 1 AND (lease.holder = ? OR lease.until < now.time)`
	// forgetSQL needs no index besides that of seq, since clock goes with it.
	forgetSQL = "WITH " + localSQL + `, old AS (SELECT seq, clock FROM commits ORDER BY seq LIMIT ?)
		DELETE FROM commits USING local, old WHERE commits.seq = old.seq AND old.clock < ` + clockSQL + ` - ?
		AND commits.seq < (SELECT max(seq) FROM commits)`
)

// Lease asks the row of the lease, by the clock of the server.
func (s *server) Lease(ctx context.Context, length time.Duration) (held bool, err error) {
	tx := s.Pinger.WithContext(ctx).Exec(leaseSQL, s.process, length.Microseconds(), s.process)
	return tx.RowsAffected > 0, database.Translate(tx, "ask for the lease", tx.Error)
}

// forgottenCommits bounds the commits that one statement deletes.
const forgottenCommits = 1000

// Forget deletes rows of commits.
func (s *server) Forget(ctx context.Context, age time.Duration) error {
	for {
		tx := s.Pinger.WithContext(ctx).Exec(forgetSQL, forgottenCommits, age.Microseconds())
		if tx.Error != nil || tx.RowsAffected < forgottenCommits {
			return database.Translate(tx, "forget commits", tx.Error)
		}
	}
}

const serverSQL = `SELECT current_setting('server_version'), current_setting('synchronous_standby_names') <> '',
	count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')), count(*) FILTER (WHERE sync_state IS NULL)
	FROM pg_stat_replication`

// Describe tells of the server that the connections for reads have found.
func (s *server) Describe(ctx context.Context) (d database.Description, err error) {
	var hidden int
	tx := s.Pinger.WithContext(ctx)
	err = tx.Raw(serverSQL).Row().Scan(&d.Version, &d.Synchronous, &d.Standbys, &hidden)
	d.StandbysKnown = hidden == 0 // only roles with pg_read_all_stats see the state of others
	d.Address = hosts(s.url)
	return d, database.Translate(tx, "describe the server", err)
}
