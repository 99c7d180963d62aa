package database

import (
	"time"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

const (
	// leastStep is by how much a restore advances the revision at least: more than a day of
	// writes at any rate that one file takes, in case a clock was wrong.
	leastStep = 1 << 36
	// lastRevision is the highest number that every reader of JSON keeps exactly.
	lastRevision = 1<<53 - 1
)

// Advance advances the revision of a restored database beyond every revision that may have
// been given out since the backup was made, and returns it. So whoever resumes a feed where
// it was before the restore can be told, and never takes one write for another.
//
// Revisions are given out at less than one in a microsecond, so the time since the last
// write in the backup bounds their number. Replaced is the last of the database that is
// replaced, as far as it is known.
func Advance(tx *gorm.DB, replaced int64, now time.Time) (revision int64, err error) {
	s, totals, _, err := readStore(tx, "0")
	if err != nil {
		return 0, err
	}
	last, err := lastWrite(tx)
	if err != nil {
		return 0, err
	}
	revision = unusedRevision(max(totals.Revision, replaced), kv.NewTimestamp(now)-last)
	totals.Revision, totals.Compacted, totals.Restored = revision, revision, revision
	return revision, s.save(tx, totals)
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
