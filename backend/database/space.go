package database

import (
	"errors"
	"os"
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

// DiskBytes returns how much of the file system that the database is on is free for
// this process, and its size. It reports false when that cannot be known.
func (db *DB) DiskBytes() (free, size int64, known bool) { return diskSpace(db.pages.Name()) }
