package database

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// Restore puts the copy at backup in the place of the database that url names, and says
// what the backup holds, and in Restored with which revision the database goes on: none
// that was given out after the backup was made is used again (see advance). It refuses a backup that Verify refuses, and a database that a process
// has open. The database that was there is kept, under the name that Restore
// returns ("" when there was none).
//
// When Restore is interrupted, by whatever it is, the database is either still the old
// one, or Open refuses it until a restore has come to its end.
func Restore(ctx context.Context, backup, url string, now time.Time) (restored Summary, kept string, err error) {
	path, err := ParseURL(url)
	if err != nil {
		return Summary{}, "", fmt.Errorf("database URL %q: %w", url, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("restore: %w", err)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return Summary{}, "", err
	}
	// Before the backup is read, which takes long: a live store is refused at once.
	lock, err := AcquireLock(path)
	if err != nil {
		return Summary{}, "", err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if err := refuseHot(backup); err != nil {
		return Summary{}, "", err
	}
	partial := path + partialSuffix
	removeDatabase(partial) // of a restore that was killed
	space := roomIn(filepath.Dir(path))
	defer func() { err = space.explain(err) }()
	if info, err := os.Stat(backup); err == nil && info.Mode().IsRegular() {
		if err := space.need(info.Size()); err != nil {
			return Summary{}, "", err
		}
	}
	if restored, err = verifyWhole(ctx, backup); err != nil {
		return Summary{}, "", err
	}
	defer removeDatabase(partial) // unless it has become the database
	if err := copyFile(ctx, backup, partial); err != nil {
		return Summary{}, "", err
	}
	likeItsDirectory(partial)
	if restored.Restored, err = advance(ctx, partial, revisionOf(ctx, path), now); err != nil {
		return Summary{}, "", err
	}
	if _, err = Verify(ctx, partial); err != nil { // what was written, not what was read
		return Summary{}, "", err
	}
	kept, err = replaceDatabase(path, partial, now)
	return restored, kept, err
}

// refuseHot refuses a file beside which there is a log that is not empty: a part of what
// it holds is in there, and would be left behind.
func refuseHot(backup string) error {
	for _, suffix := range []string{"-wal", "-journal"} {
		if log, err := os.Stat(backup + suffix); err == nil && log.Size() > 0 {
			return fmt.Errorf("%s is in use or was not closed: a part of it is in %s%s. Make a backup of it with the command \"backup\"", backup, backup, suffix)
		}
	}
	return nil
}

// replaceDatabase puts the file at partial in the place of the database at path. Between
// its first and its last step there may be no database, or one without its log, at
// path; a file beside it says so meanwhile.
func replaceDatabase(path, partial string, now time.Time) (kept string, err error) {
	mark := path + restoringSuffix
	if err := syncPath(partial); err != nil {
		return "", err
	}
	if err := createEmpty(mark); err != nil {
		return "", err
	}
	if err := syncPath(filepath.Dir(path)); err != nil {
		return "", err
	}
	if kept, err = setAside(path, now); err != nil {
		return kept, err
	}
	if err := publish(partial, path); err != nil {
		return kept, err
	}
	if err := os.Remove(mark); err != nil {
		return kept, err
	}
	return kept, syncPath(filepath.Dir(path))
}

// restoringSuffix is that of the file which says that a restore has begun to replace the
// database, and has not ended.
const restoringSuffix = ".restoring"

func refuseHalfRestored(path string) error {
	if _, err := os.Stat(path + restoringSuffix); err == nil {
		return fmt.Errorf("a restore was interrupted before its end: repeat it (backend restore FILE), "+
			"or put the files %s.before-restore-* back and remove %s%s", path, path, restoringSuffix)
	}
	return nil
}

const (
	// leastStep is by how much a restore advances the revision at least: more than a day of
	// writes at any rate that one file takes, in case a clock was wrong.
	leastStep = 1 << 36
	// lastRevision is the highest number that every reader of JSON keeps exactly.
	lastRevision = 1<<53 - 1
)

// advance advances the revision of a backup's copy at path beyond every revision that may have
// been given out since the backup was made, and returns it. So whoever resumes a feed where
// it was before the restore can be told, and never takes one write for another.
//
// Revisions are given out at less than one in a microsecond, so the time since the last
// write in the backup bounds their number. Those of the database that is replaced are
// known, when it can be read.
func advance(ctx context.Context, path string, replaced int64, now time.Time) (revision int64, err error) {
	pragmas := sharedPragmas()
	pragmas.Set("_journal_mode", "MEMORY") // if anything fails the file is thrown away
	pragmas.Set("_secure_delete", "on")
	err = withConnection(path, pragmas, func(db *gorm.DB) error {
		return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			s, totals, _, err := readStore(tx, "0")
			if err != nil {
				return err
			}
			last, err := lastWrite(tx)
			if err != nil {
				return err
			}
			revision = unusedRevision(max(totals.Revision, replaced), kv.NewTimestamp(now)-last)
			totals.Revision, totals.Compacted, totals.Restored = revision, revision, revision
			return s.save(tx, totals)
		})
	})
	return revision, err
}

// unusedRevision returns a revision that was not given out, when known was and that many
// microseconds have passed since.
func unusedRevision(known int64, elapsed kv.Timestamp) int64 {
	// A wrong clock uses up a part of the revisions alone, so a thousand restores stay below
	// lastRevision. For the first the part is more than a year of microseconds.
	const part = 256
	step := min(int64(elapsed), (lastRevision-known)/part)
	return known + max(step, leastStep)
}

// revisionOf returns the revision of the database at path, 0 when it cannot be read.
func revisionOf(ctx context.Context, path string) (revision int64) {
	if refuseNoFile(path) != nil {
		return 0
	}
	_ = withReader(path, func(db *gorm.DB) error { // if it cannot be read, that may be why there is a restore
		found, err := summarize(db.WithContext(ctx))
		revision = found.Revision
		return err
	})
	return revision
}
