package database

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
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

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

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
