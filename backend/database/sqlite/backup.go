package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"kvstore/backend/database"
)

const (
	// backupSuffix is that of an unfinished backup. No other program uses such names.
	backupSuffix = ".kv-backup.partial"
	// killedAfter is how long an unfinished backup must not have changed to count as abandoned.
	killedAfter = time.Minute
)

// Backup copies the database that url names, as it is at one moment, to the file at target.
// Another process may write to it meanwhile; for Scrub in that process it is a long read, unlike
// Copy. See Receive for what is promised of the target.
func Backup(ctx context.Context, url string, target Target) (database.Summary, error) {
	source, err := existing(url)
	if err != nil {
		return database.Summary{}, err
	}
	return Receive(ctx, target, func(partial string) error { return copyMoment(ctx, source, partial) })
}

// A Target is where a backup goes.
type Target struct {
	// Name is that of the file. A missing directory is created.
	Name string
	// Replace allows the file to exist.
	Replace bool
	// Give makes UID and GID the owner of the file and of created directories.
	Give     bool
	UID, GID int
}

// Receive calls fill to write a backup to an empty file, verifies that, and gives it the name of
// the target. When it returns nil the target is complete, verified and synced; otherwise it is
// as it was before.
func Receive(ctx context.Context, target Target, fill func(partial string) error) (made database.Summary, err error) {
	if info, err := os.Stat(target.Name); err == nil && info.IsDir() {
		return database.Summary{}, fmt.Errorf("backup: %s is a directory; name a file", target.Name)
	}
	if _, err := os.Lstat(target.Name); err == nil && !target.Replace {
		return database.Summary{}, fmt.Errorf("backup: %s exists already; name a new file, or allow with --force that it is replaced", target.Name)
	}
	dir := filepath.Dir(target.Name)
	if err := target.makeDirectory(dir); err != nil {
		return database.Summary{}, fmt.Errorf("backup: %w", err)
	}
	removeKilled(dir)
	space, partial := roomIn(dir), target.Name+backupSuffix
	lock, err := createLocked(partial)
	if err != nil {
		return database.Summary{}, fmt.Errorf("backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("backup: %w", space.explain(err))
			removeDatabase(partial)
		}
		err = errors.Join(err, lock.Close())
	}()
	if err := fill(partial); err != nil {
		return database.Summary{}, err
	}
	if made, err = verifyWhole(ctx, partial); err != nil {
		return database.Summary{}, err
	}
	if err := target.give(partial); err != nil {
		return database.Summary{}, err
	}
	return made, publish(partial, target.Name)
}

// makeDirectory creates a directory and its parents.
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

// removeKilled removes the unfinished backups of killed processes from a directory. Each is as
// large as the store, and has a name of its own. A locked one is being written.
func removeKilled(dir string) {
	names, _ := filepath.Glob(filepath.Join(quoteGlob(dir), "*"+backupSuffix)) // the pattern is sound
	for _, name := range names {
		info, err := os.Lstat(name)
		if err != nil || !info.Mode().IsRegular() || time.Since(info.ModTime()) < killedAfter {
			continue
		}
		lock := flock.New(name, flock.SetFlag(os.O_RDWR))
		if locked, err := lock.TryLock(); err == nil && locked {
			removeDatabase(name)
		}
		_ = lock.Close() // the file is gone, or another's
	}
}

// quoteGlob returns a pattern that matches only name.
func quoteGlob(name string) string {
	return strings.NewReplacer("\\", "\\\\", "*", "\\*", "?", "\\?", "[", "\\[").Replace(name)
}

// createLocked is createEmpty for a file that no other process is writing. The lock ends when it is
// closed, or with the process.
func createLocked(name string) (*flock.Flock, error) {
	lock := flock.New(name, flock.SetPermissions(0o640))
	locked, err := lock.TryLock()
	if err == nil && !locked {
		err = fmt.Errorf("another process is writing %s", name)
	}
	if err == nil {
		err = createEmpty(name)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}
