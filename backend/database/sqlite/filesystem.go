package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"

	"kvstore/backend/kv"
)

// publish syncs the file at partial and renames it, so that after a crash the name belongs to a
// complete file or to none.
func publish(partial, name string) error {
	if err := syncPath(partial); err != nil {
		return err
	}
	if err := os.Rename(partial, name); err != nil {
		return err
	}
	return syncPath(filepath.Dir(name))
}

// createEmpty creates or empties a file that only its owner and group can read, and its
// directory.
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

// likeItsDirectory gives a file that root created to the owner of its directory, so that a service
// which does not run as root can open it. Like SQLite for its own files, it ignores errors.
func likeItsDirectory(name string) {
	if os.Geteuid() != 0 {
		return
	}
	if uid, gid, ok := ownerOf(filepath.Dir(name)); ok {
		_ = os.Lchown(name, uid, gid)
	}
}

// removeDatabase removes a database with its logs.
func removeDatabase(name string) {
	for _, suffix := range []string{"", "-journal", "-wal", "-shm"} {
		_ = os.Remove(name + suffix) // most do not exist, and what is left is an error later
	}
}

// A room is the directory of a large file that is about to be written.
type room struct {
	dir   string
	free  int64 // at the beginning
	known bool
}

func roomIn(dir string) room {
	free, _, known := diskSpace(dir)
	return room{dir, free, known}
}

// explain adds the free space to the error of a full disk.
func (r room) explain(err error) error {
	if err == nil || !r.known || !errors.Is(kindOf(err), kv.ErrStorageFull) {
		return err
	}
	return fmt.Errorf("the disk is full, there were %d bytes free in %s when it began: %w", r.free, r.dir, err)
}

// need returns an error if there is no room for that many bytes.
func (r room) need(bytes int64) error {
	if r.known && r.free < bytes {
		return &kv.Error{Kind: kv.ErrStorageFull, Detail: fmt.Sprintf(
			"%d bytes are needed, there are %d bytes free in %s", bytes, r.free, r.dir)}
	}
	return nil
}

// A Lock means that this process owns a database file. It is the file FILE.lock with the owner's name
// in plain text, and ends with the process, however that dies.
type Lock struct {
	file *flock.Flock
}

// ErrInUse means that another process has the database open.
var ErrInUse = errors.New("is in use by another process")

// AcquireLock locks the database file at path. If another process has it, the error is an ErrInUse
// with its name.
func AcquireLock(path string) (*Lock, error) {
	name := path + ".lock"
	file := flock.New(name, flock.SetPermissions(0o640))
	locked, err := file.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the database: %w", err)
	}
	if !locked {
		owner, _ := os.ReadFile(name) // only for the message
		return nil, fmt.Errorf("%s %w (%s); stop it first, a store belongs to one process at a time. "+
			"(If that host is the id of a container, stop the container: docker compose stop backend)",
			path, ErrInUse, ownerOr("unknown", string(owner)))
	}
	host, _ := os.Hostname() // only for the message
	owner := fmt.Sprintf("pid %d on host %s\n", os.Getpid(), host)
	if err := os.WriteFile(name, []byte(owner), 0o640); err != nil {
		return nil, fmt.Errorf("lock the database: %w", errors.Join(err, file.Close()))
	}
	likeItsDirectory(name)
	return &Lock{file: file}, nil
}

func ownerOr(fallback, owner string) string {
	if owner = strings.TrimSpace(owner); owner == "" {
		return fallback
	}
	return owner
}

// Release releases the lock.
func (l *Lock) Release() error { return l.file.Close() }
