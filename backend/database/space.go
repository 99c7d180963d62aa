package database

import (
	"errors"
	"fmt"
	"os"

	"kvstore/backend/kv"
)

// LogBytes returns the size of the write-ahead log, 0 when there is none. The file
// keeps the size of the longest log since it was made anew.
func (db *DB) LogBytes() (int64, error) {
	info, err := os.Stat(db.logName())
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (db *DB) logName() string { return db.pages.Name() + "-wal" }

// DiskBytes returns how much of the file system that the database is on is free for
// this process, and its size. It reports false when that cannot be known.
func (db *DB) DiskBytes() (free, size int64, known bool) { return diskSpace(db.pages.Name()) }

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
