package postgres

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

const (
	beatInterval = 5 * time.Second
	// memberExpiry is how long a backend counts as running that has not said so again.
	memberExpiry = time.Minute
)

// memberRow is a backend that runs.
type memberRow struct {
	ID      string `gorm:"primaryKey;type:text"` // of the process
	Backend string `gorm:"type:text;not null"`
	Program string `gorm:"type:text;not null"` // its version
	Schema  int64  `gorm:"not null"`           // the latest that it knows
	Seen    int64  `gorm:"not null"`           // by the clock of the server, Unix microseconds
}

func (memberRow) TableName() string { return "members" }

// A member is this process in the table of members.
type member struct {
	row      memberRow
	outdated atomic.Bool // the tables were changed so that this program cannot use them
	stop     context.CancelFunc
	beating  sync.WaitGroup
}

// join makes this process a member, or returns why the tables are not for it.
func join(ctx context.Context, pools database.Pools, row memberRow) (*member, error) {
	row.Schema = database.SchemaVersion
	m := &member{row: row}
	if err := m.beat(ctx, pools.Writer); err != nil {
		return nil, err
	}
	ctx, m.stop = context.WithCancel(context.WithoutCancel(ctx))
	m.beating.Go(func() {
		ticker := time.NewTicker(beatInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				_ = m.beat(ctx, pools.Pinger) // what makes it fail /readyz tells, and the log of it
			}
		}
	})
	return m, nil
}

// leave ends what join has begun. The row goes when it has expired.
func (m *member) leave() {
	m.stop()
	m.beating.Wait()
}

const (
	// The lock keeps others from changing the tables until this member is seen. Nobody needs its row after a
	// crash, so the commit waits neither for a disk nor for a standby.
	leastSQL = `SELECT least, version, set_config('synchronous_commit', 'off', true) FROM kvstore_schema
		WHERE id = 1 FOR SHARE`
	seenSQL = `INSERT INTO members (id, backend, program, schema, seen) VALUES (?, ?, ?, ?, ` + clockSQL + `)
		ON CONFLICT (id) DO UPDATE SET seen = excluded.seen`
	expiredSQL = "DELETE FROM members WHERE seen < " + clockSQL + " - ?"
)

// beat says that this process runs.
func (m *member) beat(ctx context.Context, db *gorm.DB) error {
	ctx, cancel := context.WithTimeout(ctx, beatInterval)
	defer cancel()
	return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		var least, version int64
		var ignored string
		if err := tx.Raw(leastSQL).Row().Scan(&least, &version, &ignored); err != nil {
			return err
		}
		if err := refuseSchema(version, least); err != nil {
			m.outdated.Store(true)
			return err
		}
		return first(tx.Exec(seenSQL, m.row.ID, m.row.Backend, m.row.Program, m.row.Schema),
			tx.Exec(expiredSQL, memberExpiry.Microseconds()))
	})
}

// errOutdated is for a backend that went on while a newer version took away what it uses.
var errOutdated = &kv.Error{Kind: kv.ErrUnavailable, Detail: "A newer version of the program has changed the database, " +
	"so that this backend cannot use it any more"}
