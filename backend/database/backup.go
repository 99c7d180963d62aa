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
// target, which must not exist; its directory is made when missing. It may run while another process has the
// database open and writes to it; the copy is the state at one moment. The copy is
// complete, synced and checked when Backup returns nil, and absent otherwise.
func Backup(ctx context.Context, url, target string) (err error) {
	source, err := existing(url)
	if err != nil {
		return err
	}
	if _, err := os.Stat(target); err == nil {
		return fmt.Errorf("backup: %s exists already; name a new file", target)
	}
	partial := target + ".partial"
	if err := createEmpty(partial); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("backup: %w", err)
			_ = os.Remove(partial) // the failure above is the one to tell
		}
	}()
	// Not a reader: one that may only query cannot write the copy either.
	if err := withConnection(source, sharedPragmas(), func(db *gorm.DB) error {
		return db.WithContext(ctx).Exec("VACUUM INTO ?", partial).Error
	}); err != nil {
		return err
	}
	if err := verify(ctx, partial); err != nil {
		return err
	}
	return publish(partial, target)
}

// Restore puts the copy at backup in the place of the database that url names. It
// refuses a backup that is damaged, and a database that a process has open. The
// database that was there is kept, under the name that Restore returns ("" when
// there was none).
func Restore(ctx context.Context, backup, url string, now time.Time) (kept string, err error) {
	path, err := ParseURL(url)
	if err != nil {
		return "", fmt.Errorf("database URL %q: %w", url, err)
	}
	if err := verify(ctx, backup); err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	lock, err := AcquireLock(path)
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	partial := path + ".partial"
	if err := copyFile(backup, partial); err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	if kept, err = setAside(path, now); err != nil {
		return kept, fmt.Errorf("restore: %w", err)
	}
	return kept, publish(partial, path)
}

// Check reads the whole database that url names and returns nil when every page,
// row and index is sound. It may run while another process has it open.
func Check(ctx context.Context, url string) error {
	path, err := existing(url)
	if err != nil {
		return err
	}
	return verify(ctx, path)
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

// verify checks that the file is a sound database of this program.
func verify(ctx context.Context, path string) error {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	err := withReader(path, func(db *gorm.DB) error {
		if _, err := checkFile(db.WithContext(ctx)); err != nil {
			return err
		}
		var id string
		if err := db.WithContext(ctx).Raw("SELECT uuid FROM store").Row().Scan(&id); err != nil {
			return fmt.Errorf("it holds no store of this program: %w", err)
		}
		return check(db.WithContext(ctx), "integrity_check")
	})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
