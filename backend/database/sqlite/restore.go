package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gorm.io/gorm"

	"kvstore/backend/database"
)

// Restore replaces the database that url names by a copy of the backup. It returns the summary
// of the backup, and in Restored the revision that the database continues from: none that was
// used after the backup was made is used again (see database.Advance). The old database is kept
// under the returned name, "" if there was none. Restore refuses a backup that Verify refuses, and a
// database that is open.
//
// If Restore is interrupted, the database is still the old one, or Open refuses it until a restore
// succeeds.
func Restore(ctx context.Context, backup, url string, now time.Time) (restored database.Summary, kept string, err error) {
	path, err := ParseURL(url)
	if err != nil {
		return database.Summary{}, "", fmt.Errorf("database URL %q: %w", url, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("restore: %w", err)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return database.Summary{}, "", err
	}
	// Before reading the backup takes its time.
	lock, err := AcquireLock(path)
	if err != nil {
		return database.Summary{}, "", err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if err := refuseHot(backup); err != nil {
		return database.Summary{}, "", err
	}
	partial := path + partialSuffix
	removeDatabase(partial) // of a restore that was killed
	space := roomIn(filepath.Dir(path))
	defer func() { err = space.explain(err) }()
	if info, err := os.Stat(backup); err == nil && info.Mode().IsRegular() {
		if err := space.need(info.Size()); err != nil {
			return database.Summary{}, "", err
		}
	}
	if restored, err = verifyWhole(ctx, backup); err != nil {
		return database.Summary{}, "", err
	}
	defer removeDatabase(partial) // unless it has become the database
	if err := copyMoment(ctx, backup, partial); err != nil {
		return database.Summary{}, "", err
	}
	likeItsDirectory(partial)
	if restored.Restored, err = advance(ctx, partial, revisionOf(ctx, path), now); err != nil {
		return database.Summary{}, "", err
	}
	if _, err = Verify(ctx, partial); err != nil { // what was written, not what was read
		return database.Summary{}, "", err
	}
	kept, err = replaceDatabase(path, partial, now)
	return restored, kept, err
}

// refuseHot refuses a file with a log that is not empty, since a part of its contents is there.
func refuseHot(backup string) error {
	for _, suffix := range []string{"-wal", "-journal"} {
		if log, err := os.Stat(backup + suffix); err == nil && log.Size() > 0 {
			return fmt.Errorf("%s is in use or was not closed: a part of it is in %s%s. Make a backup of it with the command \"backup\"", backup, backup, suffix)
		}
	}
	return nil
}

// replaceDatabase replaces the database at path by the file at partial. While there may be no
// database at path, or one without its log, the file with restoringSuffix exists.
func replaceDatabase(path, partial string, now time.Time) (kept string, err error) {
	mark := path + restoringSuffix
	if err := syncPath(partial); err != nil {
		return "", err
	}
	if err := createEmpty(mark); err != nil {
		return "", err
	}
	if err := syncPath(filepath.Dir(path)); err != nil {
		return "", err
	}
	if kept, err = setAside(path, now); err != nil {
		return kept, err
	}
	if err := publish(partial, path); err != nil {
		return kept, err
	}
	if err := os.Remove(mark); err != nil {
		return kept, err
	}
	return kept, syncPath(filepath.Dir(path))
}

const (
	// partialSuffix is that of an unfinished restore's copy.
	partialSuffix = ".partial"
	// restoringSuffix is that of the mark of a restore that is replacing the database.
	restoringSuffix = ".restoring"
)

func refuseHalfRestored(path string) error {
	if _, err := os.Stat(path + restoringSuffix); err == nil {
		return fmt.Errorf("a restore was interrupted before its end: repeat it (backend restore FILE), "+
			"or put the files %s.before-restore-* back and remove %s%s", path, path, restoringSuffix)
	}
	return nil
}

// advance advances the revision of the copy at path, see database.Advance.
func advance(ctx context.Context, path string, replaced int64, now time.Time) (revision int64, err error) {
	pragmas := sharedPragmas()
	pragmas.Set("_journal_mode", "MEMORY") // if anything fails the file is thrown away
	pragmas.Set("_secure_delete", "on")
	err = withConnection(ctx, path, pragmas, func(db *gorm.DB) error {
		return db.Transaction(func(tx *gorm.DB) error {
			revision, err = database.Advance(tx, replaced, now)
			return err
		})
	})
	return revision, err
}

// revisionOf returns the revision of the database at path, or 0 if it cannot be read, which may be
// the reason for the restore.
func revisionOf(ctx context.Context, path string) int64 {
	if refuseNoFile(path) != nil {
		return 0
	}
	found, _ := summarize(ctx, path)
	return found.Revision
}

// setAside renames the database at path with its log, and returns the new name, or "" if there is
// no database.
func setAside(path string, now time.Time) (string, error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	kept := fmt.Sprintf("%s.before-restore-%s", path, now.UTC().Format("20060102T150405.000000"))
	for _, suffix := range []string{"-wal", "-shm", ""} { // the log first: it is worthless without its file
		if err := os.Rename(path+suffix, kept+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return kept, nil
}
