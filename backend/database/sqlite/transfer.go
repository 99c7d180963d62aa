package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"gorm.io/gorm"

	"kvstore/backend/database"
	"kvstore/backend/kv"
)

// FromFile is the source that reads a backup, which it verifies first (see Verify).
func FromFile(name string) database.Source {
	return func(ctx context.Context, read func(*gorm.DB) error) error {
		if err := refuseHot(name); err != nil {
			return err
		}
		return readVerified(ctx, name, read)
	}
}

// FromStopped is the source that reads the database that url names, which it verifies first. No process
// may have it open, and none can open it meanwhile.
func FromStopped(url string) database.Source {
	return func(ctx context.Context, read func(*gorm.DB) error) (err error) {
		path, err := existing(url)
		if err != nil {
			return err
		}
		return whileLocked(path, func() error { return readVerified(ctx, path, read) })
	}
}

func readVerified(ctx context.Context, path string, read func(*gorm.DB) error) error {
	if _, err := Verify(ctx, path); err != nil {
		return err
	}
	return withReader(ctx, path, func(db *gorm.DB) error { return db.Transaction(read) })
}

// ToNew is the destination that makes the database that url names. No file may have its name. The
// file is verified before it gets the name, and synced.
func ToNew(url string) database.Destination {
	return func(ctx context.Context, fill func(database.Empty) error) error {
		path, err := ParseURL(url)
		if err != nil {
			return fmt.Errorf("database URL %q: %w", url, err)
		}
		if err := refuseExisting(path); err != nil { // and leave no lock beside it
			return err
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return err
		}
		return whileLocked(path, func() error {
			partial := path + partialSuffix
			removeDatabase(partial)       // of a process that was killed
			defer removeDatabase(partial) // unless it has become the database
			if err := refuseExisting(path); err != nil {
				return err
			}
			if err := ToFile(partial)(ctx, fill); err != nil {
				return err
			}
			if _, err := Verify(ctx, partial); err != nil {
				return err
			}
			likeItsDirectory(partial)
			return publish(partial, path)
		})
	}
}

// refuseExisting refuses the name of a database, and one whose log was left, which SQLite would take for
// that of the new one.
func refuseExisting(path string) error {
	for _, suffix := range []string{"", "-wal", "-journal", restoringSuffix} {
		if _, err := os.Lstat(path + suffix); err == nil {
			return fmt.Errorf("%s%s exists already; name a new file", path, suffix)
		}
	}
	return nil
}

func whileLocked(path string, fn func() error) error {
	lock, err := AcquireLock(path)
	if err != nil {
		return err
	}
	defer lock.Release() //nolint:errcheck // it ends with the process at the latest
	return fn()
}

// ToFile is the destination that makes a database of a file, which may exist and is emptied. The file is
// not synced, and after an error it may hold anything.
func ToFile(name string) database.Destination {
	return func(ctx context.Context, fill func(database.Empty) error) error {
		space := roomIn(filepath.Dir(name))
		if err := createEmpty(name); err != nil {
			return err
		}
		pragmas := sharedPragmas()
		pragmas.Set("_auto_vacuum", "incremental")
		pragmas.Set("_journal_mode", "OFF") // if anything fails the file is thrown away
		pragmas.Set("_synchronous", "OFF")
		return space.explain(withConnection(ctx, name, pragmas, func(db *gorm.DB) error {
			if err := createSchema(db); err != nil {
				return err
			}
			return db.Transaction(func(tx *gorm.DB) error {
				save := func(s database.Identity, c database.Commit) error { return database.SaveStore(tx, s, c) }
				return fill(database.Empty{Tx: tx, Room: space.need, Save: save})
			})
		}))
	}
}

// Export makes a copy of a source: a file without a name in the directory for temporary files (TMPDIR).
// Errors: kv.ErrStorageFull if there is no room for it, kv.ErrUnavailable if the directory
// cannot be written, and those of the source.
func Export(ctx context.Context, from database.Source) (*database.Copy, error) {
	dir := os.TempDir()
	removeKilled(dir)
	name := filepath.Join(dir, fmt.Sprintf("kv_store-%d%s", os.Getpid(), backupSuffix))
	lock, err := createLocked(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", &kv.Error{Kind: kv.ErrUnavailable, Detail: "A backup is made in the directory for " +
			"temporary files, " + dir + " (TMPDIR), which cannot be written"}, err)
	}
	defer lock.Close() //nolint:errcheck // it ends with the process at the latest
	_, err = database.Transfer{From: from, To: ToFile(name)}.Run(ctx)
	if err != nil {
		removeDatabase(name)
		return nil, err
	}
	made, err := openCopy(ctx, name)
	if err != nil {
		removeDatabase(name)
	}
	return made, err
}
