package database

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"gorm.io/gorm"
)

// Backup writes a consistent copy of the database that url names to the file at
// target. It may run while another process has the database open and writes to it; the
// copy is the state at one moment. (That is a long read for the other process, which
// Scrub waits for; DB.Copy is not.) For the rest see Receive.
func Backup(ctx context.Context, url string, target Target) (Summary, error) {
	source, err := existing(url)
	if err != nil {
		return Summary{}, err
	}
	return Receive(ctx, target, func(partial string) error {
		// Not a reader: one that may only query cannot write the copy either.
		return withConnection(source, sharedPragmas(), func(db *gorm.DB) error {
			return db.WithContext(ctx).Exec("VACUUM INTO ?", partial).Error
		})
	})
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
func Receive(ctx context.Context, target Target, fill func(partial string) error) (made Summary, err error) {
	if info, err := os.Stat(target.Name); err == nil && info.IsDir() {
		return Summary{}, fmt.Errorf("backup: %s is a directory; name a file", target.Name)
	}
	if _, err := os.Lstat(target.Name); err == nil && !target.Replace {
		return Summary{}, fmt.Errorf("backup: %s exists already; name a new file, or allow with --force that it is replaced", target.Name)
	}
	if err := target.makeDirectory(filepath.Dir(target.Name)); err != nil {
		return Summary{}, fmt.Errorf("backup: %w", err)
	}
	dir := filepath.Dir(target.Name)
	removeKilled(dir)
	space, partial := roomIn(dir), target.Name+backupSuffix
	lock, err := createLocked(partial)
	if err != nil {
		return Summary{}, fmt.Errorf("backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("backup: %w", space.explain(err))
			removeDatabase(partial)
		}
		err = errors.Join(err, lock.Close())
	}()
	if err := fill(partial); err != nil {
		return Summary{}, err
	}
	if made, err = verifyWhole(ctx, partial); err != nil {
		return Summary{}, err
	}
	if err := target.give(partial); err != nil {
		return Summary{}, err
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

// Check reads the whole database that url names and says what it holds; it returns an
// error unless every page, row, index and counter is sound. It may run while another
// process has it open.
func Check(ctx context.Context, url string) (Summary, error) {
	path, err := existing(url)
	if err != nil {
		return Summary{}, err
	}
	return Verify(ctx, path)
}

// StoreIDOf returns the id of the store in the database that url names, without reading
// more of it.
func StoreIDOf(ctx context.Context, url string) (string, error) {
	path, err := existing(url)
	if err != nil {
		return "", err
	}
	var found Summary
	err = withReader(path, func(db *gorm.DB) (err error) {
		found, err = summarize(db.WithContext(ctx))
		return err
	})
	return found.StoreID, err
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
