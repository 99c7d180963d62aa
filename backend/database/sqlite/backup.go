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
	// backupSuffix is that of a backup that is not complete: no other program has such names.
	backupSuffix = ".kv-backup.partial"
	// killedAfter is how long nobody has written to a backup that is not complete before
	// it counts as given up.
	killedAfter = time.Minute
)

// Backup writes a consistent copy of the database that url names to the file at
// target. It may run while another process has the database open and writes to it; the
// copy is the state at one moment. (That is a long read for the other process, which
// Scrub waits for; a Copy of that process is not.) For the rest see Receive.
func Backup(ctx context.Context, url string, target Target) (database.Summary, error) {
	source, err := existing(url)
	if err != nil {
		return database.Summary{}, err
	}
	return Receive(ctx, target, func(partial string) error { return copyMoment(ctx, source, partial) })
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
func Receive(ctx context.Context, target Target, fill func(partial string) error) (made database.Summary, err error) {
	if info, err := os.Stat(target.Name); err == nil && info.IsDir() {
		return database.Summary{}, fmt.Errorf("backup: %s is a directory; name a file", target.Name)
	}
	if _, err := os.Lstat(target.Name); err == nil && !target.Replace {
		return database.Summary{}, fmt.Errorf("backup: %s exists already; name a new file, or allow with --force that it is replaced", target.Name)
	}
	if err := target.makeDirectory(filepath.Dir(target.Name)); err != nil {
		return database.Summary{}, fmt.Errorf("backup: %w", err)
	}
	dir := filepath.Dir(target.Name)
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

// removeKilled removes from a directory what backups have left there that were killed, under
// whatever name: each is as large as the store, and a backup has a new name every time. One that
// a process has locked is being made.
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
		_ = lock.Close() // it is not there any more, or another's
	}
}

// quoteGlob returns the pattern of a name alone.
func quoteGlob(name string) string {
	return strings.NewReplacer("\\", "\\\\", "*", "\\*", "?", "\\?", "[", "\\[").Replace(name)
}

// createLocked makes an empty file as createEmpty does, and refuses one that another
// process is writing. The lock ends when it is closed, or with the process.
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
