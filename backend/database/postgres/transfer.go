package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"kvstore/backend/database"
)

// closeTimeout is how long a connection that its program has closed may still be seen.
const closeTimeout = 2 * time.Second

// Snapshot is the source that reads the database that url names while backends use it. None waits.
func Snapshot(url string) database.Source {
	return func(ctx context.Context, read func(*gorm.DB) error) error {
		return withConnection(ctx, url, reading, findStore, func(db *gorm.DB) error { return db.Transaction(read) })
	}
}

// FromStopped is Snapshot for a database that no backend uses. It fails when one is connected, or has
// written by the end.
func FromStopped(url string) database.Source {
	return func(ctx context.Context, read func(*gorm.DB) error) error {
		stopped := func(db *gorm.DB) error {
			if err := findStore(db); err != nil {
				return err
			}
			return refuseOthers(ctx, db)
		}
		return withConnection(ctx, url, reading, stopped, func(db *gorm.DB) error {
			var before, after database.Mark
			err := db.Transaction(func(tx *gorm.DB) (err error) {
				if before, _, err = lastCommit(tx); err != nil { // from its first read on, tx sees one moment
					return err
				}
				return read(tx)
			})
			if err == nil {
				after, _, err = lastCommit(db)
			}
			if err == nil && after != before {
				err = fmt.Errorf("%s: a backend has written meanwhile; stop every backend, and repeat", Address(url))
			}
			return err
		})
	}
}

// ToEmpty is the destination that fills the empty database that url names, in one transaction, and makes
// the tables when there are none. Backends that are connected are refused, since they remember
// the id of the empty store. by names this process in the table of commits.
//
// The rows go in by statements of 64 rows, as GORM runs them in other transactions. COPY takes the server
// nearly as much CPU (1.11 s for 100,000 versions in place of 1.26 s): most of it goes to the foreign
// key (0.72 s) and the indexes.
func ToEmpty(url, by string) database.Destination {
	return func(ctx context.Context, fill func(database.Empty) error) error {
		empty := func(db *gorm.DB) error {
			if err := prepare(ctx, db); err != nil {
				return err
			}
			return refuseOthers(ctx, db)
		}
		return withConnection(ctx, url, writing, empty, func(db *gorm.DB) error {
			tx := db.Begin()
			if tx.Error != nil {
				return tx.Error
			}
			defer tx.Rollback() // after a commit it does nothing
			if err := fillEmpty(tx, url, by, fill); err != nil {
				return err
			}
			if err := tx.Commit().Error; err != nil {
				return fmt.Errorf("%s: it is not known whether the last step, the commit, was made; repeat the command, "+
					"which refuses if the store is there: %w", Address(url), err)
			}
			return nil
		})
	}
}

func fillEmpty(tx *gorm.DB, url, by string, fill func(database.Empty) error) error {
	var last database.Mark
	err := lock(tx, lockSQL)
	if err == nil {
		err = refuseFilled(tx)
	}
	if err == nil {
		last, _, err = lastCommit(tx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", Address(url), err)
	}
	save := func(s database.Identity, c database.Commit) error {
		err := tx.Exec("UPDATE identity SET uuid = ?, created_at = ? WHERE id = 1", s.StoreID, s.Created).Error
		if err == nil {
			_, err = (&server{backend: by}).Record(tx, last, c)
		}
		if err == nil { // so that the first plans are good ones
			err = tx.Exec("ANALYZE keys, versions, erased").Error
		}
		return err
	}
	return fill(database.Empty{Tx: tx, Room: func(int64) error { return nil }, Save: save})
}

// refuseFilled returns an error unless nothing was ever written to the store.
func refuseFilled(tx *gorm.DB) error {
	found, err := database.Summarize(tx)
	if err == nil && found.Revision != 0 {
		err = fmt.Errorf("it is not empty: it has the store %s at revision %d; use an empty database, or drop this one first",
			found.StoreID, found.Revision)
	}
	return err
}

// findStore returns an error unless there are tables of this version.
func findStore(db *gorm.DB) error {
	version, err := readSchema(db)
	if codeOf(err) == undefinedTable || err == nil && version == 0 {
		return errors.New("it holds no store")
	}
	return err
}

const othersSQL = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
	AND application_name = current_setting('application_name')`

// refuseOthers returns an error if a program is connected that has the name of this one, as each backend
// has (see ParseURL). It waits for connections that are just being closed.
func refuseOthers(ctx context.Context, db *gorm.DB) error {
	for deadline := time.Now().Add(closeTimeout); ; {
		var others int64
		err := db.Raw(othersSQL).Row().Scan(&others)
		switch {
		case err != nil || others == 0:
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("it is in use: %d other connections have the application_name of this one; "+
				"stop every backend first", others)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// The transactions of withConnection.
var (
	reading = sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	writing = sql.TxOptions{Isolation: sql.LevelReadCommitted}
)

// withConnection calls fn with one connection for transactions that take as long as they need, unless
// check fails. An error of fn comes back as it is.
func withConnection(
	ctx context.Context, url string, transactions sql.TxOptions, check, fn func(*gorm.DB) error,
) (err error) {
	cfg, err := ParseURL(url)
	if err != nil {
		return fmt.Errorf("database URL: %w", err)
	}
	p := &pool{transactions: transactions}
	db, err := p.openAlone(cfg, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	db = db.WithContext(ctx)
	if err = refusePooler(ctx, cfg); err == nil {
		err = check(db)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", Address(url), explained(err))
	}
	return fn(db)
}
