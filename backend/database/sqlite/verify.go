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
	// maxQuickCheckBytes is the size up to which Open checks the structure of a file, at about
	// 500 MB a second.
	maxQuickCheckBytes = 256 << 20
	// maxRowCheckBytes is the size up to which Open compares all rows with their checksums, which
	// takes several times as long.
	maxRowCheckBytes = 64 << 20
)

// createSchema creates the tables of a new file, and marks it as ours, in one transaction.
func createSchema(db *gorm.DB) error {
	return db.Transaction(func(tx *gorm.DB) error {
		if err := database.CreateSchema(tx); err != nil {
			return err
		}
		return errors.Join(tx.Exec("PRAGMA application_id = "+strconv.Itoa(applicationID)).Error,
			tx.Exec("PRAGMA user_version = "+strconv.Itoa(database.SchemaVersion)).Error)
	})
}

// A finding describes a file that was accepted.
type finding struct {
	isNew bool // it has no tables
	size  int64
	// damage is nil if the rows were not checked.
	damage *database.RowDamage
}

// checkAtStart checks as much of a file as its size allows. Damaged rows are logged.
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

// checkFile is identify for a file whose structure is not damaged, up to maxQuickCheckBytes.
func checkFile(db *gorm.DB) (finding, error) {
	found, err := identify(db)
	if err != nil || found.isNew || found.size > maxQuickCheckBytes {
		return found, err
	}
	return found, runCheck(db, "quick_check")
}

// identify refuses a file of another program, and one whose schema has another version.
func identify(db *gorm.DB) (found finding, err error) {
	var tables, id, version int64
	err = db.Raw(`SELECT (SELECT count(*) FROM sqlite_master), (SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version), `+sizeSQL).Row().Scan(&tables, &id, &version, &found.size)
	switch {
	case err != nil:
		return finding{}, unreadable(err)
	case tables == 0:
		return finding{isNew: true}, nil
	case id != applicationID:
		return finding{}, errors.New("the file is the SQLite database of another program")
	}
	return found, refuseSchema(db, version)
}

// errEmpty is what a file without tables is where a store is needed.
var errEmpty = errors.New("it is empty: it holds no store")

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

// refuseSchema returns nil for the schema version of this program.
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

// ErrDevelopment means that a file has no schema version: it was made by a program that was
// never released.
var ErrDevelopment = errors.New("it is a database of the development before schema version 1, which was never released; " +
	"commit bf5da16bdfb7 of this program still reads it")

// RefuseDevelopment returns an ErrDevelopment with the last step of the schema, if db is such a
// file, or the error of reading it.
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

// Verify reads all of the file at path, a database or a backup, and summarizes it. It fails if
// SQLite's integrity check does, which compares indexes with tables, if a row does not match its
// checksum (the error names the key and the version), if a key lacks a version, or if the
// counters are wrong; and for a file that Open refuses.
func Verify(ctx context.Context, path string) (found database.Summary, err error) {
	if err := refuseNoFile(path); err != nil {
		return database.Summary{}, err
	}
	err = withReader(ctx, path, func(db *gorm.DB) error {
		switch file, err := checkFile(db); {
		case err != nil:
			return err
		case file.isNew:
			return errEmpty
		}
		// In one transaction, since the database may be in use.
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
	// The rows first: their errors have names.
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

// summarize reads the summary that the file at path has of itself.
func summarize(ctx context.Context, path string) (found database.Summary, err error) {
	err = withReader(ctx, path, func(db *gorm.DB) error {
		found, err = database.Summarize(db)
		return err
	})
	return found, err
}

// refuseNoFile returns an error for what is no readable file. SQLite would call it damaged.
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

// verifyWhole is Verify with size and digest, for a file that this process does not have open: to
// close it would release SQLite's locks.
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

// Check is Verify for the database that url names. Another process may have it open.
func Check(ctx context.Context, url string) (database.Summary, error) {
	path, err := existing(url)
	if err != nil {
		return database.Summary{}, err
	}
	return Verify(ctx, path)
}

// StoreIDOf returns the id of the store in the database that url names.
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
