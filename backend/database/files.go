package database

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// publish syncs the file at partial and gives it its name, so that after a crash
// the name stands for a complete file or for none.
func publish(partial, name string) error {
	if err := syncPath(partial); err != nil {
		return err
	}
	if err := os.Rename(partial, name); err != nil {
		return err
	}
	return syncPath(filepath.Dir(name))
}

// createEmpty makes an empty file that only its owner and group can read, and its
// directory. SQLite writes a copy into an empty file, with the file's mode.
func createEmpty(name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		return err
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	return file.Close()
}

func syncPath(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

const (
	// partialSuffix is that of what a restore has copied so far.
	partialSuffix = ".partial"
	// backupSuffix is that of a backup that is not complete: no other program has such names.
	backupSuffix = ".kv-backup.partial"
	// killedAfter is how long nobody has written to a backup that is not complete before
	// it counts as given up.
	killedAfter = time.Minute
)

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

// copyFile copies a file that may be large, and stops when ctx ends.
func copyFile(ctx context.Context, from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return source.Read(p)
	}))
	return errors.Join(err, target.Close())
}

// likeItsDirectory gives a file that root made to the owner of the directory that it is
// in: a service that does not run as root must be able to open what root restored. As
// SQLite does for its own files, it goes on when that cannot be done.
func likeItsDirectory(name string) {
	if os.Geteuid() != 0 {
		return
	}
	if uid, gid, ok := ownerOf(filepath.Dir(name)); ok {
		_ = os.Lchown(name, uid, gid)
	}
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

// readerFunc is an io.Reader.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// setAside renames the database at path and the files that belong to it, and
// returns the new name, "" when there was no database.
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
