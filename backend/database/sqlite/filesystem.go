package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"kvstore/backend/kv"
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

// removeDatabase removes a file that SQLite made, with those that belong to it.
func removeDatabase(name string) {
	for _, suffix := range []string{"", "-journal", "-wal", "-shm"} {
		_ = os.Remove(name + suffix) // what is not there needs no removal, and the next attempt tells of the rest
	}
}

// A room is a directory that something large is about to be written to.
type room struct {
	dir   string
	free  int64 // when it began
	known bool
}

func roomIn(dir string) room {
	free, _, known := diskSpace(dir)
	return room{dir, free, known}
}

// explain adds to the error of a full disk how much there was.
func (r room) explain(err error) error {
	if err == nil || !r.known || !errors.Is(kindOf(err), kv.ErrStorageFull) {
		return err
	}
	return fmt.Errorf("the disk is full, there were %d bytes free in %s when it began: %w", r.free, r.dir, err)
}

// need refuses what has no room for that many bytes.
func (r room) need(bytes int64) error {
	if r.known && r.free < bytes {
		return fmt.Errorf("%d bytes are needed, there are %d bytes free in %s", bytes, r.free, r.dir)
	}
	return nil
}
