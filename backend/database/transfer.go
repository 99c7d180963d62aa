package database

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"hash"
	"time"

	"gorm.io/gorm"

	"kvstore/backend/kv"
)

// A Source calls read with a transaction that sees a database as of one moment. It returns the error of
// read, or its own.
type Source func(ctx context.Context, read func(*gorm.DB) error) error

// A Destination calls fill with a database that has tables and no rows. When it returns nil, what fill
// has written is durable; with an error nothing of it is left.
type Destination func(ctx context.Context, fill func(Empty) error) error

// An Empty is a database without rows, in a transaction.
type Empty struct {
	Tx *gorm.DB
	// Room returns an error if the disk has no room for that many bytes.
	Room func(bytes int64) error
	// Save makes it the store of that identity, with the counters of c. It comes after the rows.
	Save func(s Identity, c Commit) error
}

// A Transfer copies a store from one database to another, of any engines: every row, the id, and the
// counters. It holds a bounded number of rows in memory.
type Transfer struct {
	From Source
	To   Destination
	// Restored, if set, is the time of a restore: the revision is advanced, see Advance. Otherwise
	// nothing changes.
	Restored time.Time
	// Report, if set, is called now and then: what is done, with how many versions of about how many.
	Report func(doing string, versions, all int64)
}

const (
	readingRows = "read all rows"
	// transferPiece bounds the rows that are written at once, and transferBytes their values, which
	// one more may exceed.
	transferPiece = 512
	transferBytes = 4 << 20
)

// Run reads, compares with its checksum and writes every row. Then it reads the destination, and
// compares all rows in their order, the identity and the counters with what it has read. With an error
// nothing is left. The summary is that of the source, but for Restored.
func (t Transfer) Run(ctx context.Context) (made Summary, err error) {
	err = t.To(ctx, func(to Empty) error {
		return t.From(ctx, func(from *gorm.DB) error {
			made, err = t.run(from, to)
			return err
		})
	})
	return made, err
}

func (t Transfer) run(from *gorm.DB, to Empty) (made Summary, err error) {
	identity, totals, size, err := readStore(from, sizeOfRowsSQL)
	if err != nil {
		return made, Translate(from, "read the counters", err)
	}
	made = Summary{StoreID: identity.StoreID, Totals: totals}
	if err := to.Room(size); err != nil {
		return made, err
	}
	read, err := t.copyRows(from, to.Tx, totals.Versions)
	if err == nil && !t.Restored.IsZero() {
		totals, err = advanced(from, totals, 0, t.Restored)
	}
	if err != nil {
		return made, err
	}
	err = to.Save(identity, Commit{Totals: totals, Checksum: identity.Checksum(totals), Clock: read.clock})
	if err != nil {
		return made, Translate(to.Tx, "save the counters", err)
	}
	made.Restored = totals.Restored
	return made, t.compare(to.Tx, identity, totals, read)
}

// compare returns nil if the database has that identity, those counters and those rows.
func (t Transfer) compare(tx *gorm.DB, identity Identity, totals kv.Totals, read *rowsRead) error {
	i, c, _, err := readStore(tx, "0")
	if err != nil {
		return Translate(tx, "read the counters", err)
	}
	found := newRowsRead()
	err = everyRow(tx, func(into *insert, row []any, _ int) error {
		found.add(into, row)
		t.report("comparing", found.versions, totals.Versions)
		return nil
	})
	if err == nil && (i != identity || c != totals || found.digest() != read.digest()) {
		err = fmt.Errorf("%w: the rows that were written are not those that were read", kv.ErrCorrupt)
	}
	return err
}

func (t Transfer) report(doing string, versions, all int64) {
	if t.Report != nil && versions%tableRows == 0 {
		t.Report(doing, versions, all)
	}
}

// copyRows copies all rows and returns what it has read.
func (t Transfer) copyRows(from, to *gorm.DB, all int64) (*rowsRead, error) {
	read := newRowsRead()
	var into *insert
	var rows [][]any
	bytes := 0
	flush := func() (err error) {
		if into != nil {
			err = into.exec(to, rows)
		}
		rows, bytes = rows[:0], 0
		return err
	}
	err := everyRow(from, func(table *insert, row []any, size int) error {
		read.add(table, row)
		t.report("copying", read.versions, all)
		if table != into || len(rows) == transferPiece || bytes > transferBytes {
			if err := flush(); err != nil {
				return err
			}
			into = table
		}
		rows, bytes = append(rows, row), bytes+size
		return nil
	})
	if err == nil {
		err = flush()
	}
	return read, err
}

// rowsRead is what is kept of rows that were read.
type rowsRead struct {
	hash     hash.Hash
	buffer   []byte
	versions int64
	clock    kv.Timestamp // the latest time of a version
}

func newRowsRead() *rowsRead { return &rowsRead{hash: sha256.New()} }

// add takes the next row of a table.
func (r *rowsRead) add(into *insert, row []any) {
	if into == transferVersions {
		r.versions++
		r.clock = max(r.clock, kv.Timestamp(row[versionTime].(int64)))
	}
	b := appendText(r.buffer[:0], into.table)
	for _, column := range row {
		switch column := column.(type) {
		case int64:
			b = appendNumbers(b, column)
		case bool:
			b = appendNumbers(b, truth(column))
		case string:
			b = appendText(b, column)
		case []byte:
			b = append(appendNumbers(b, int64(len(column))), column...)
		}
	}
	r.hash.Write(b) // which returns no error
	r.buffer = b
}

func (r *rowsRead) digest() string { return string(r.hash.Sum(nil)) }

var (
	transferKeys     = newInsert("keys", keyColumns, "")
	transferVersions = newInsert("versions", versionRowColumns, "")
	transferErased   = newInsert("erased", "version, checksum, digest", "") // after a bracket, GORM takes bytes apart
)

// versionTime is the place of the time in the result of versionOf.
const versionTime = 3

// sizeOfRowsSQL is a lower bound for the bytes that a copy needs on a disk.
const sizeOfRowsSQL = "(SELECT coalesce(sum(length(value)), 0) + 100 * count(*) FROM versions)"

var (
	transferKeysSQL     = fmt.Sprintf("SELECT %s FROM keys WHERE id > ? ORDER BY id LIMIT %d", keyRowColumns, tableRows)
	transferVersionsSQL = fmt.Sprintf(`SELECT versions.key_id, %s FROM versions LEFT JOIN keys ON keys.id = versions.key_id
		WHERE versions.revision > ? ORDER BY versions.revision LIMIT %d`, entryColumns, tableRows)
	transferErasedSQL = fmt.Sprintf("SELECT %s FROM erased WHERE digest > ? ORDER BY digest LIMIT %d",
		erasedColumns, tableRows)
)

// everyRow calls fn with each row of the database, in the order of the tables and of their primary keys,
// where it is inserted, and its approximate size in bytes. Each is what was written, or the error
// is kv.ErrCorrupt and names it. An error of fn comes back as it is.
func everyRow(tx *gorm.DB, fn func(into *insert, row []any, bytes int) error) error {
	err := readTable(tx, readingRows, transferKeysSQL, int64(0), func(rows *sql.Rows) (any, error) {
		var k storedKey
		if err := errors.Join(rows.Scan(k.fields()...), k.check()); err != nil {
			return nil, translateRow(tx, "read a key", err, k.key, 0)
		}
		h := k.head
		return h.ID, fn(transferKeys, []any{
			h.ID, k.key, h.Version, h.Revision, int64(h.Time), h.TotalVersions,
			h.Deleted, int64(h.Expires), h.CompleteFrom, h.Pruned, k.checksum,
		}, len(k.key))
	})
	if err != nil {
		return err
	}
	err = readTable(tx, readingRows, transferVersionsSQL, int64(0), func(rows *sql.Rows) (any, error) {
		var v storedVersion
		var keyID int64
		err := rows.Scan(append([]any{&keyID}, v.entryFields()...)...)
		if err == nil {
			err = v.checkAll()
		}
		if err != nil {
			return nil, translateRow(tx, "read a version", err, v.Key, v.Version)
		}
		return v.Revision, fn(transferVersions, versionOf(&v.Entry, keyID), len(v.Value))
	})
	if err != nil {
		return err
	}
	return readTable(tx, readingRows, transferErasedSQL, []byte{}, func(rows *sql.Rows) (any, error) {
		var e storedErased
		if err := errors.Join(rows.Scan(e.fields()...), e.check()); err != nil {
			return nil, Translate(tx, "read an erased key", err)
		}
		return e.digest, fn(transferErased, []any{e.version, e.checksum, e.digest}, len(e.digest))
	})
}
