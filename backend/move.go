package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"kvstore/backend/database"
	"kvstore/backend/database/postgres"
	"kvstore/backend/database/sqlite"
)

// move copies the database, which no backend may use, to an empty one. Nothing changes, so clients notice
// nothing when the service goes on with the other one.
func (c command) move(ctx context.Context, args []string) error {
	url := args[0]
	if err := checkDatabaseURL(url); err != nil {
		return mistake("the URL to move to: %w", err)
	}
	to, err := c.destination(url)
	if err != nil {
		return err
	}
	from := sqlite.FromStopped(c.config.databaseURL)
	if c.config.onPostgres() {
		from = postgres.FromStopped(c.config.databaseURL)
	}
	var moved database.Summary
	work := newWork("checking")
	err = c.withReports(work.doing, func() (err error) {
		moved, err = database.Transfer{From: from, To: to, Report: work.report}.Run(ctx)
		return err
	})
	if err != nil {
		return err
	}
	rest := ""
	if isPostgres(url) {
		rest = ", with the password and the parameters"
	}
	return c.printf("moved %s to %s, and compared every row\n%s\n"+
		"to switch, start each backend with KV_DATABASE_URL=%[2]s%s\n"+
		"%[1]s is left as it was: remove it once the service runs",
		c.config.databaseName(), nameOf(url), contents(moved), rest)
}

// destination returns the database that url names, which must be empty.
func (c command) destination(url string) (database.Destination, error) {
	if !isPostgres(url) {
		return sqlite.ToNew(url), nil
	}
	name, err := c.config.backend()
	return postgres.ToEmpty(url, name), err
}

// restoreToServer restores a backup to an empty database on PostgreSQL.
func (c command) restoreToServer(ctx context.Context, backup string) error {
	to, err := c.destination(c.config.databaseURL)
	if err != nil {
		return err
	}
	var restored database.Summary
	work := newWork("checking")
	err = c.withReports(work.doing, func() (err error) {
		restored, err = database.Transfer{
			From: sqlite.FromFile(backup), To: to, Restored: time.Now(), Report: work.report,
		}.Run(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return c.printf("restored %s to %s, and compared every row\n%s\n"+afterRestore,
		backup, c.config.databaseName(), contents(restored), restored.Restored+1)
}

// export makes a backup of a database on PostgreSQL.
func (c command) export(ctx context.Context, options sqlite.Target) (made database.Summary, err error) {
	work := newWork("making the backup")
	err = c.withReports(work.doing, func() error {
		made, err = sqlite.Receive(ctx, options, func(partial string) error {
			_, err := database.Transfer{
				From: postgres.Snapshot(c.config.databaseURL), To: sqlite.ToFile(partial), Report: work.report,
			}.Run(ctx)
			work.begin("checking the backup")
			return err
		})
		return err
	})
	return made, err
}

// work is what a long command is doing. Its methods may be called concurrently.
type work struct{ text atomic.Pointer[string] }

func newWork(doing string) *work {
	w := &work{}
	w.begin(doing)
	return w
}

func (w *work) begin(doing string) { w.text.Store(&doing) }
func (w *work) doing() string      { return *w.text.Load() }

func (w *work) report(doing string, versions, all int64) {
	w.begin(fmt.Sprintf("%s, %d of %d versions", doing, versions, all))
}
