package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/mattn/go-sqlite3"
	"gorm.io/gorm"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

const (
	// copySuffix is that of an unfinished copy beside the database.
	copySuffix = ".copy"
	// copyPages is the number of pages that are copied at a time. Writes wait as long.
	copyPages = 256
	// copyReserve is the free space that must remain beside the copy, in bytes, so that writes go
	// on: the write-ahead log usually stays below it.
	copyReserve = 32 << 20
)

// Copy reads pages through the writing connection, a megabyte at a time. After each step it yields
// the connection for as long as the step took, so a write waits a few milliseconds, and seldom
// for two steps. It holds up no Scrub, unlike a read: what is written meanwhile goes to the copy
// too.
//
// The copy is a file without a name beside the database, and as large. Errors: kv.ErrStorageFull if
// there is no room for it, kv.ErrCorrupt if a page cannot be read, or kv.ErrUnavailable.
func (f *file) Copy(ctx context.Context) (*database.Copy, error) { return f.copy(ctx, func() {}) }

// copy calls between, for tests, after each step.
func (f *file) copy(ctx context.Context, between func()) (made *database.Copy, err error) {
	name := f.path + copySuffix
	defer func() {
		if err != nil {
			removeDatabase(name)
		}
	}()
	tx := f.Writer.WithContext(ctx)
	if err := f.roomForCopy(ctx); err != nil {
		return nil, database.Translate(tx, "look for room", err)
	}
	removeDatabase(name)
	err = copyPagesTo(ctx, name, f.withWriter, func(took time.Duration) {
		between()
		yield(ctx, took)
	})
	if err != nil {
		return nil, database.Translate(tx, "copy the database", err)
	}
	if made, err = openCopy(ctx, name); err != nil {
		return nil, database.Translate(tx, "read the copy", err)
	}
	return made, nil
}

func (f *file) roomForCopy(ctx context.Context) error {
	var size int64
	if err := f.Readers.WithContext(ctx).Raw("SELECT " + sizeSQL).Row().Scan(&size); err != nil {
		return err
	}
	needed := size + copyReserve
	if free, _, known := diskSpace(filepath.Dir(f.path)); known && free < needed {
		return &kv.Error{Kind: kv.ErrStorageFull, Detail: fmt.Sprintf(
			"A backup is made beside the database and needs %d bytes free there (the database has %d); %d are", needed, size, free)}
	}
	return nil
}

// copyMoment copies the database at path, as it is at one moment, to a file of that name. Another
// process may write to the database meanwhile.
func copyMoment(ctx context.Context, path, name string) error {
	return withReader(ctx, path, func(db *gorm.DB) error {
		return db.Connection(func(tx *gorm.DB) error {
			if err := tx.Exec("BEGIN").Error; err != nil {
				return unreadable(err)
			}
			found, err := identify(tx) // from its first read on, tx sees one moment
			if err == nil && found.isNew {
				err = errEmpty
			}
			if err != nil {
				return err
			}
			conn := tx.Statement.ConnPool.(*sql.Conn)
			lend := func(_ context.Context, fn func(*sql.Conn) error) error { return fn(conn) }
			return copyPagesTo(ctx, name, lend, func(time.Duration) {})
		})
	})
}

// copyPagesTo copies a database to a file of that name, in steps. Lend lends it the same connection
// to the database for each; between is called after each with its duration.
func copyPagesTo(
	ctx context.Context, name string, lend func(context.Context, func(*sql.Conn) error) error, between func(took time.Duration),
) (err error) {
	if err := createEmpty(name); err != nil {
		return err
	}
	// Without a journal: if anything fails the file is discarded.
	pragmas := url.Values{"_journal_mode": {"OFF"}, "_synchronous": {"OFF"}}
	target, err := newConnector(name, pragmas, nil).Connect(ctx)
	if err != nil {
		return err
	}
	c := copying{target: target.(*sqlite3.SQLiteConn)}
	for err == nil && !c.done {
		var took time.Duration
		err = lend(ctx, func(conn *sql.Conn) error {
			began := time.Now()
			defer func() { took = time.Since(began) }()
			return conn.Raw(c.step)
		})
		between(took)
		err = errors.Join(err, ctx.Err())
	}
	if err = errors.Join(err, c.finish()); err != nil {
		return err
	}
	return cleanCopy(name)
}

// copying is a copy that is being made.
type copying struct {
	target, source *sqlite3.SQLiteConn
	backup         *sqlite3.SQLiteBackup
	done           bool
}

func (c *copying) step(raw any) (err error) {
	current := raw.(*sqlite3.SQLiteConn)
	if c.backup == nil {
		c.source = current
		if c.backup, err = c.target.Backup("main", current, "main"); err != nil {
			return err
		}
	}
	if current != c.source {
		return errors.New("the connection that writes was replaced meanwhile")
	}
	c.done, err = c.backup.Step(copyPages)
	return err
}

func (c *copying) finish() (err error) {
	if c.backup != nil {
		err = c.backup.Finish()
	}
	return errors.Join(err, c.target.Close())
}

// yield waits as long as a step took. Without it every write waits for a step: beside a copy of
// 1 GB eight writers had 240 to 450 writes/s, p50 9 to 18 ms, and with it 490 to 850, p50 3.5 to
// 3.7 ms (two cores, busy with other work).
func yield(ctx context.Context, took time.Duration) {
	select {
	case <-ctx.Done(): // which the next step reports
	case <-time.After(took):
	}
}

// cleanCopy makes a backup of a closed copy.
func cleanCopy(name string) error {
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	// Without a write-ahead log, unlike the original, it can be read where nothing can be written.
	const offsetVersions, rollbackJournal = 18, 1
	if _, err := file.WriteAt([]byte{rollbackJournal, rollbackJournal}, offsetVersions); err != nil {
		return err
	}
	// Values that were destroyed since the first page was copied are gone from the rows, but
	// what Scrub overwrites in the original may still be here.
	return findGaps(file, func(pages []int64) error {
		for _, number := range pages {
			if err := clearGap(file, number); err != nil {
				return err
			}
		}
		return nil
	})
}

// openCopy opens the copy of that name, and removes the name.
func openCopy(ctx context.Context, name string) (*database.Copy, error) {
	summary, err := summarize(ctx, name)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	summary.Bytes, summary.SHA256, err = digestReader(file)
	if err == nil {
		_, err = file.Seek(0, 0)
	}
	if err = errors.Join(err, os.Remove(name)); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &database.Copy{Summary: summary, File: file}, nil
}
