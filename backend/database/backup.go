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
func Backup(ctx context.Context, url string, target Target) (Summary, error) {
	source, err := existing(url)
	if err != nil {
		return Summary{}, err
	}
	return Receive(ctx, target, func(partial string) error {
		// Not a reader: one that may only query cannot write the copy either.
		return withConnection(source, sharedPragmas(), func(db *gorm.DB) error {
			return db.WithContext(ctx).Exec("VACUUM INTO ?", partial).Error
		})
	})
}

// A Target says where a backup goes.
type Target struct {
	// Name is that of the file. Its directory is made when missing.
	Name string
	// Replace allows a file of that name to be there.
	Replace bool
	// Give has the file, and the directories that are made for it, belong to UID and GID.
	Give     bool
	UID, GID int
}

// Receive makes a backup of what fill writes to the empty file that it is given the
// name of. The target is complete, synced and verified when Receive returns nil, and
// as it was before otherwise: absent, unless Replace allows one to be there.
func Receive(ctx context.Context, target Target, fill func(partial string) error) (made Summary, err error) {
	if info, err := os.Stat(target.Name); err == nil && info.IsDir() {
		return Summary{}, fmt.Errorf("backup: %s is a directory; name a file", target.Name)
	}
	if _, err := os.Lstat(target.Name); err == nil && !target.Replace {
		return Summary{}, fmt.Errorf("backup: %s exists already; name a new file, or allow with --force that it is replaced", target.Name)
	}
	if err := target.makeDirectory(filepath.Dir(target.Name)); err != nil {
		return Summary{}, fmt.Errorf("backup: %w", err)
	}
	dir := filepath.Dir(target.Name)
	removeKilled(dir)
	space, partial := roomIn(dir), target.Name+backupSuffix
	lock, err := createLocked(partial)
	if err != nil {
		return Summary{}, fmt.Errorf("backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("backup: %w", space.explain(err))
			removeDatabase(partial)
		}
		err = errors.Join(err, lock.Close())
	}()
	if err := fill(partial); err != nil {
		return Summary{}, err
	}
	if made, err = verifyWhole(ctx, partial); err != nil {
		return Summary{}, err
	}
	if err := target.give(partial); err != nil {
		return Summary{}, err
	}
	return made, publish(partial, target.Name)
}

// makeDirectory makes a directory and those above it.
func (t Target) makeDirectory(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := t.makeDirectory(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return t.give(dir)
}

func (t Target) give(name string) error {
	if !t.Give {
		return nil
	}
	return os.Lchown(name, t.UID, t.GID)
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
	if err := refuseHot(backup); err != nil {
		return Summary{}, "", err
	}
	partial := path + partialSuffix
	removeDatabase(partial) // of a restore that was killed
	space := roomIn(filepath.Dir(path))
	defer func() { err = space.explain(err) }()
	if info, err := os.Stat(backup); err == nil && info.Mode().IsRegular() {
		if err := space.need(info.Size()); err != nil {
			return Summary{}, "", err
		}
	}
	if _, err = Verify(ctx, backup); err != nil {
		return Summary{}, "", err
	}
	defer removeDatabase(partial) // unless it has become the database
	if err := copyFile(ctx, backup, partial); err != nil {
		return Summary{}, "", err
	}
	likeItsDirectory(partial)
	if restored, err = verifyWhole(ctx, partial); err != nil { // what was written, not what was read
		return Summary{}, "", err
	}
	kept, err = replaceDatabase(path, partial, now)
	return restored, kept, err
}

// refuseHot refuses a file beside which there is a log that is not empty: a part of what
// it holds is in there, and would be left behind.
func refuseHot(backup string) error {
	for _, suffix := range []string{"-wal", "-journal"} {
		if log, err := os.Stat(backup + suffix); err == nil && log.Size() > 0 {
			return fmt.Errorf("%s is in use or was not closed: a part of it is in %s%s. Make a backup of it with the command \"backup\"", backup, backup, suffix)
		}
	}
	return nil
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
