package database

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gorm.io/gorm"
)

// Backup writes a consistent copy of the database that url names to the file at
// target. It may run while another process has the database open and writes to it; the
// copy is the state at one moment. (That is a long read for the other process, which
// Scrub waits for; DB.Copy is not.) For the rest see Receive.
func Backup(ctx context.Context, url, target string, replace bool) (Summary, error) {
	source, err := existing(url)
	if err != nil {
		return Summary{}, err
	}
	return Receive(ctx, target, replace, func(partial string) error {
		// Not a reader: one that may only query cannot write the copy either.
		return withConnection(source, sharedPragmas(), func(db *gorm.DB) error {
			return db.WithContext(ctx).Exec("VACUUM INTO ?", partial).Error
		})
	})
}

// Receive makes a backup of what fill writes to the empty file that it is given the
// name of. The file at target is complete, synced and verified when Receive returns
// nil, and as it was before otherwise: absent, unless replace allows one to be there. Its
// directory is made when missing.
func Receive(ctx context.Context, target string, replace bool, fill func(partial string) error) (made Summary, err error) {
	if _, err := os.Lstat(target); err == nil && !replace {
		return Summary{}, fmt.Errorf("backup: %s exists already; name a new file, or allow with --force that it is replaced", target)
	}
	partial := target + ".partial"
	if err := createEmpty(partial); err != nil {
		return Summary{}, fmt.Errorf("backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("backup: %w", err)
			removeDatabase(partial)
		}
	}()
	if err := fill(partial); err != nil {
		return Summary{}, err
	}
	if made, err = verifyWhole(ctx, partial); err != nil {
		return Summary{}, err
	}
	return made, publish(partial, target)
}

// Restore puts the copy at backup in the place of the database that url names, and says
// what it holds. It refuses a backup that Verify refuses, and a database that a process
// has open. The database that was there is kept, under the name that Restore
// returns ("" when there was none).
//
// When Restore is interrupted, by whatever it is, the database is either still the old
// one, or Open refuses it until a restore has come to its end.
func Restore(ctx context.Context, backup, url string, now time.Time) (restored Summary, kept string, err error) {
	path, err := ParseURL(url)
	if err != nil {
		return Summary{}, "", fmt.Errorf("database URL %q: %w", url, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("restore: %w", err)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return Summary{}, "", err
	}
	// Before the backup is read, which takes long: a live store is refused at once.
	lock, err := AcquireLock(path)
	if err != nil {
		return Summary{}, "", err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if _, err = Verify(ctx, backup); err != nil {
		return Summary{}, "", err
	}
	partial := path + ".partial"
	if err := copyFile(backup, partial); err != nil {
		return Summary{}, "", errors.Join(err, os.Remove(partial))
	}
	if restored, err = verifyWhole(ctx, partial); err != nil { // what was written, not what was read
		return Summary{}, "", err
	}
	kept, err = replaceDatabase(path, partial, now)
	return restored, kept, err
}

// replaceDatabase puts the file at partial in the place of the database at path. Between
// its first and its last step there may be no database, or one without its log, at
// path; a file beside it says so meanwhile.
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

// restoringSuffix is that of the file which says that a restore has begun to replace the
// database, and has not ended.
const restoringSuffix = ".restoring"

func refuseHalfRestored(path string) error {
	if _, err := os.Stat(path + restoringSuffix); err == nil {
		return fmt.Errorf("a restore was interrupted before its end: repeat it (backend restore FILE), "+
			"or put the files %s.before-restore-* back and remove %s%s", path, path, restoringSuffix)
	}
	return nil
}

// Check reads the whole database that url names and says what it holds; it returns an
// error unless every page, row, index and counter is sound. It may run while another
// process has it open.
func Check(ctx context.Context, url string) (Summary, error) {
	path, err := existing(url)
	if err != nil {
		return Summary{}, err
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
	var found Summary
	err = withReader(path, func(db *gorm.DB) (err error) {
		found, err = summarize(db.WithContext(ctx))
		return err
	})
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
