package database

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// An Identity is the part of the row of the store that never changes.
type Identity struct {
	StoreID string
	Created int64 // Unix microseconds
}

// NewIdentity returns the identity of a new store.
func NewIdentity() Identity {
	return Identity{StoreID: uuid.NewString(), Created: time.Now().UnixMicro()}
}

const storeColumns = `store.uuid, store.created_at, store.revision, store.total_keys, store.total_versions,
	store.compacted, store.forgotten, store.restored, store.checksum`

// readTotals reads the counters of the store. The error is kv.ErrCorrupt when they are damaged.
func readTotals(tx *gorm.DB) (kv.Totals, error) {
	_, totals, _, err := readStore(tx, "0")
	return totals, err
}

// readStore reads the row of the store and one more column.
func readStore(tx *gorm.DB, column string) (s Identity, t kv.Totals, more int64, err error) {
	var row storedTotals
	if err = tx.Raw("SELECT " + storeColumns + ", " + column + " FROM store").Row().Scan(append(row.fields(), &more)...); err == nil {
		err = row.check()
	}
	return row.Identity, row.Totals, more, err
}

// storedTotals is the row of the store. check must be called before it is used.
type storedTotals struct {
	Identity
	kv.Totals
	sum int64
}

func (s *storedTotals) fields() []any {
	return []any{&s.StoreID, &s.Created, &s.Revision, &s.Keys, &s.Versions, &s.Compacted, &s.Forgotten, &s.Restored, &s.sum}
}

func (s *storedTotals) check() error {
	got := s.Checksum(s.Totals)
	if got == s.sum {
		return nil
	}
	return fmt.Errorf("%w (their row has the checksum %08x, what is read has %08x)", &kv.Error{
		Kind: kv.ErrCorrupt, Detail: "The counters of the store are damaged on the disk",
	}, uint32(s.sum), uint32(got))
}

const saveTotalsSQL = `UPDATE store SET revision = ?, total_keys = ?, total_versions = ?, compacted = ?, forgotten = ?,
	restored = ?, checksum = ?`

// SaveTotals writes the counters to the table store.
func SaveTotals(tx *gorm.DB, t kv.Totals, checksum int64) error {
	return tx.Exec(saveTotalsSQL, t.Revision, t.Keys, t.Versions, t.Compacted, t.Forgotten, t.Restored, checksum).Error
}

// SaveStore makes the row of the table store that of another store.
func SaveStore(tx *gorm.DB, s Identity, c Commit) error {
	if err := tx.Exec("UPDATE store SET uuid = ?, created_at = ?", s.StoreID, s.Created).Error; err != nil {
		return err
	}
	return SaveTotals(tx, c.Totals, c.Checksum)
}

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
	if totals, err = advanced(tx, totals, replaced, now); err != nil {
		return 0, err
	}
	return totals.Revision, SaveTotals(tx, totals, s.Checksum(totals))
}

// advanced returns the counters of a database as Advance changes them.
func advanced(tx *gorm.DB, totals kv.Totals, replaced int64, now time.Time) (kv.Totals, error) {
	last, err := lastWrite(tx)
	revision := unusedRevision(max(totals.Revision, replaced), kv.NewTimestamp(now)-last)
	totals.Revision, totals.Compacted, totals.Restored = revision, revision, revision
	return totals, err
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
