package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"

	"gorm.io/gorm"

	"kvstore/backend/database"
)

const (
	// applicationID marks a file as one of ours: "kvst" in ASCII.
	applicationID = 0x6b767374
	// maxQuickCheckBytes bounds the file that is checked whole at each start. A
	// check reads about 500 MB a second; larger files are checked by the command
	// "check" alone.
	maxQuickCheckBytes = 256 << 20
	// maxRowCheckBytes bounds the file whose rows are compared with their checksums at
	// each start, which takes several times as long. Reads compare them in any case.
	maxRowCheckBytes = 64 << 20
)

// createSchema makes the tables of a new file, and stamps it, in one transaction.
func createSchema(db *gorm.DB) error {
	return db.Transaction(func(tx *gorm.DB) error {
		if err := database.CreateSchema(tx); err != nil {
			return err
		}
		return errors.Join(tx.Exec("PRAGMA application_id = "+strconv.Itoa(applicationID)).Error,
			tx.Exec("PRAGMA user_version = "+strconv.Itoa(database.SchemaVersion)).Error)
	})
}

// A finding is what a check learns of a file that it accepts.
type finding struct {
	isNew bool // it has no tables
	size  int64
	// damage is of rows, in a file that SQLite can read. nil when they were not checked.
	damage *database.RowDamage
}

// checkAtStart checks a file before it is opened, as much of it as its size allows.
func checkAtStart(ctx context.Context, path string, logger *slog.Logger) (found finding, err error) {
	err = withReader(ctx, path, func(db *gorm.DB) error {
		if found, err = checkFile(db); err == nil && !found.isNew && found.size <= maxRowCheckBytes {
			found.damage, err = checkRows(db)
		}
		return err
	})
	if err != nil {
		return found, err
	}
	if found.damage != nil && found.damage.All > 0 {
		logger.Error("rows of the database are damaged; they are not served, and the others are", "path", path,
			"rows", found.damage.All, "damage", found.damage.Named)
	}
	if found.size > maxQuickCheckBytes {
		logger.Info("the database is large and is not read whole at the start; the command \"check\" does that", "path", path)
	}
	return found, nil
}

// checkFile refuses a database whose structure is damaged, which belongs to another
// program, or whose schema has another version. It reads all of a file up to maxQuickCheckBytes.
func checkFile(db *gorm.DB) (finding, error) {
	var tables, id, version int64
	var found finding
	err := db.Raw(`SELECT (SELECT count(*) FROM sqlite_master), (SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version), `+sizeSQL).Row().Scan(&tables, &id, &version, &found.size)
	switch {
	case err != nil:
		return finding{}, unreadable(err)
	case tables == 0:
		return finding{isNew: true}, nil
	case id != applicationID:
		return finding{}, errors.New("the file is the SQLite database of another program")
	}
	if err := refuseSchema(db, version); err != nil || found.size > maxQuickCheckBytes {
		return found, err
	}
	return found, runCheck(db, "quick_check")
}

// runCheck runs one of SQLite's own checks (quick_check or integrity_check).
func runCheck(db *gorm.DB, pragma string) error {
	var found string
	if err := db.Raw("PRAGMA " + pragma + "(1)").Row().Scan(&found); err != nil {
		return unsound(damagedFile, err)
	}
	if found != "ok" {
		return fmt.Errorf("%s: %s", damagedFile, found)
	}
	return nil
}

const damagedFile = "the database file is damaged"

func checkRows(db *gorm.DB) (*database.RowDamage, error) {
	damage, err := database.CheckRows(db)
	if err != nil {
		err = unsound(damagedFile, err)
	}
	return damage, err
}

// refuseSchema refuses a file of ours whose schema has another version.
func refuseSchema(db *gorm.DB, version int64) error {
	switch {
	case version == database.SchemaVersion:
		return nil
	case version > database.SchemaVersion:
		return fmt.Errorf("its schema is newer than this program (version %d, this program knows %d): run the version that wrote it, or a later one",
			version, database.SchemaVersion)
	}
	if err := RefuseDevelopment(db.Statement.Context, db.Statement.ConnPool); err != nil {
		return err
	}
	return fmt.Errorf("the database file is damaged: its schema has the version %d", version)
}

// ErrDevelopment says that a file has no schema version: only programs that were never
// released made such files.
var ErrDevelopment = errors.New("it is a database of the development before schema version 1, which was never released; " +
	"commit bf5da16bdfb7 of this program still reads it")

// RefuseDevelopment returns ErrDevelopment, with the last step of its schema, for such a
// file of ours, or the error of reading it.
func RefuseDevelopment(ctx context.Context, db interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}) error {
	var found bool
	err := db.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id) = ? AND (SELECT user_version FROM pragma_user_version) = 0
		AND EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'migrations')`, applicationID).Scan(&found)
	if err != nil || !found {
		return err
	}
	var step string
	if err := db.QueryRowContext(ctx, "SELECT coalesce(max(id), 'none') FROM migrations").Scan(&step); err != nil {
		return err
	}
	return fmt.Errorf("%w (the last step of its schema: %s)", ErrDevelopment, step)
}

// Verify reads the file at path, which may be a database or a backup, from beginning
// to end, and says what it holds. It returns an error when the file is no database of
// this program, has a schema of another version, or is not sound: SQLite's
// integrity check finds something, a key points at a version that it does not have, or
// the counters are not what counting the rows gives, or a row does not have its checksum:
// then the error names the key and the version.
func Verify(ctx context.Context, path string) (found database.Summary, err error) {
	if err := refuseNoFile(path); err != nil {
		return database.Summary{}, err
	}
	err = withReader(ctx, path, func(db *gorm.DB) error {
		switch file, err := checkFile(db); {
		case err != nil:
			return err
		case file.isNew:
			return errors.New("it is empty: it holds no store")
		}
		// One transaction: a live database goes on while it is read.
		return db.Transaction(func(tx *gorm.DB) error {
			found, err = verifyRows(tx)
			return err
		})
	})
	if err != nil {
		return database.Summary{}, fmt.Errorf("%s: %w", path, err)
	}
	return found, nil
}

func verifyRows(db *gorm.DB) (database.Summary, error) {
	found, err := database.Summarize(db)
	if err != nil {
		return found, fmt.Errorf("it holds no store of this program: %w", err)
	}
	if err := runCheck(db, "integrity_check"); err != nil {
		return found, err
	}
	damage, err := checkRows(db)
	if err != nil {
		return found, err
	}
	// The counts after the rows: a row that is damaged has a name.
	return found, errors.Join(damage.Err(), database.CheckCounts(db, found.Totals), checkKeysOfVersions(db))
}

func checkKeysOfVersions(db *gorm.DB) error {
	var orphan any
	err := db.Raw("SELECT rowid FROM pragma_foreign_key_check LIMIT 1").Row().Scan(&orphan)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		err = errors.New("the database is damaged: a version belongs to no key")
	}
	return err
}

// summarize reads what the file at path says of itself.
func summarize(ctx context.Context, path string) (found database.Summary, err error) {
	err = withReader(ctx, path, func(db *gorm.DB) error {
		found, err = database.Summarize(db)
		return err
	})
	return found, err
}

// refuseNoFile refuses what SQLite would call damaged: a name that cannot be opened, or
// that is not one of a file.
func refuseNoFile(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", name)
	}
	return err
}

// verifyWhole is Verify for a file that nobody has open. (To close a file that SQLite has
// open in this process would take its locks away.)
func verifyWhole(ctx context.Context, path string) (database.Summary, error) {
	found, err := Verify(ctx, path)
	if err != nil {
		return database.Summary{}, err
	}
	file, err := os.Open(path)
	if err != nil {
		return database.Summary{}, err
	}
	defer file.Close()
	found.Bytes, found.SHA256, err = digestReader(file)
	return found, err
}

func digestReader(r io.Reader) (bytes int64, digest [sha256.Size]byte, err error) {
	hash := sha256.New()
	bytes, err = io.Copy(hash, r)
	hash.Sum(digest[:0])
	return bytes, digest, err
}

// Check reads the whole database that url names and says what it holds; it returns an
// error unless every page, row, index and counter is sound. It may run while another
// process has it open.
func Check(ctx context.Context, url string) (database.Summary, error) {
	path, err := existing(url)
	if err != nil {
		return database.Summary{}, err
	}
	return Verify(ctx, path)
}

// StoreIDOf returns the id of the store in the database that url names, without reading
// more of it.
func StoreIDOf(ctx context.Context, url string) (string, error) {
	path, err := existing(url)
	if err != nil {
		return "", err
	}
	found, err := summarize(ctx, path)
	return found.StoreID, err
}

func existing(url string) (string, error) {
	path, err := ParseURL(url)
	if err != nil {
		return "", fmt.Errorf("database URL %q: %w", url, err)
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("the database: %w", err)
	}
	return path, nil
}
