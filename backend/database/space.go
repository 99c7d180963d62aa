package database

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// LogBytes returns the size of the write-ahead log, 0 when there is none. The file
// keeps the size of the longest log since it was made anew.
func (db *DB) LogBytes() (int64, error) {
	info, err := os.Stat(db.pages.Name() + "-wal")
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// DiskBytes returns the size of the file system that the database is on, and how much
// of that is free for this process.
func (db *DB) DiskBytes() (free, size int64, err error) {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(db.pages.Name(), &disk); err != nil {
		return 0, 0, fmt.Errorf("ask the file system of %s: %w", db.pages.Name(), err)
	}
	block := int64(disk.Bsize)
	return int64(disk.Bavail) * block, int64(disk.Blocks) * block, nil
}
