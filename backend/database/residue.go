package database

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
)

// With secure_delete SQLite overwrites the rows and pages that it frees. But when it
// balances the pages of a table it may pack the rows of a page closer together, and
// then leaves copies of some in the unallocated gap between the page's list of rows
// and the rows (rebuildPage in its source). Such a copy survives the row. So after a
// destruction the gaps of all pages are overwritten, in the file, while nobody
// writes. SQLite never reads a gap: whatever it has of it in memory or loses of it
// in a crash, the database is the same.

// pageSize is that of every file of this program, SQLite's default.
const pageSize = 4096

const (
	// SQLite's header of a file.
	offsetPageSize = 16
	offsetReserved = 20
	offsetAutoRoot = 52 // not 0 in a file with a pointer map
	// A page of the pointer map has five bytes for each page behind it, the kind
	// first, and the next page of the map follows these.
	mapEntry  = 5
	mapPages  = pageSize/mapEntry + 1
	kindRoot  = 1
	kindTree  = 5
	mapsFirst = 2 // the number of the first page of the map
)

// openPages opens the file for wipeGaps. It must be opened once and stay open until
// every connection is closed: when a process closes a file, it loses the locks that
// SQLite has on the same file.
func openPages(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR, 0) }

// wipeGaps overwrites what is left in the gaps and returns of how many pages. The
// write-ahead log must be empty, and the caller must hold the only connection that
// writes.
func wipeGaps(file *os.File) (wiped int, err error) {
	header := make([]byte, 100)
	if _, err := file.ReadAt(header, 0); err != nil {
		return 0, fmt.Errorf("read the header of the file: %w", err)
	}
	if size := binary.BigEndian.Uint16(header[offsetPageSize:]); size != pageSize || header[offsetReserved] != 0 ||
		binary.BigEndian.Uint32(header[offsetAutoRoot:]) == 0 {
		return 0, errors.New("the file has not the layout of this program")
	}
	group := make([]byte, mapPages*pageSize) // a page of the map and those that it tells of
	for offset := int64(mapsFirst-1) * pageSize; ; offset += int64(len(group)) {
		n, err := file.ReadAt(group, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return wiped, fmt.Errorf("read pages: %w", err)
		}
		some, failed := wipeGroup(file, group[:n-n%pageSize], offset)
		if wiped += some; failed != nil {
			return wiped, failed
		}
		if err != nil { // the end of the file
			break
		}
	}
	if wiped == 0 {
		return 0, nil
	}
	return wiped, file.Sync()
}

func wipeGroup(file *os.File, group []byte, offset int64) (wiped int, err error) {
	for at := pageSize; at < len(group); at += pageSize {
		kind := group[mapEntry*(at/pageSize-1)]
		if kind != kindRoot && kind != kindTree {
			continue
		}
		from, to := gapOf(group[at : at+pageSize])
		gap := group[at+from : at+to]
		if isZero(gap) {
			continue
		}
		clear(gap)
		if _, err := file.WriteAt(gap, offset+int64(at+from)); err != nil {
			return wiped, fmt.Errorf("overwrite what is left in a page: %w", err)
		}
		wiped++
	}
	return wiped, nil
}

// gapOf returns where the unallocated part of a page of a tree begins and ends: 0 and
// 0 when the page is none or does not say.
func gapOf(page []byte) (from, to int) {
	switch page[0] {
	case 0x0a, 0x0d: // leaves of an index and of a table
		from = 8
	case 0x02, 0x05: // pages above them
		from = 12
	default:
		return 0, 0
	}
	from += 2 * int(binary.BigEndian.Uint16(page[3:]))
	to = int(binary.BigEndian.Uint16(page[5:]))
	if from > to || to > len(page) {
		return 0, 0
	}
	return from, to
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// mapPages rewrites a file that has no pointer map, which an earlier version made:
// without the map its free pages cannot be given back to the disk, nor its gaps be
// told from values. It needs as much room again while it runs.
func (db *DB) mapPages(ctx context.Context, logger *slog.Logger) error {
	return db.withWriter(ctx, func(conn *sql.Conn) error {
		var mode int
		if err := conn.QueryRowContext(ctx, "PRAGMA auto_vacuum").Scan(&mode); err != nil || mode != 0 {
			return err
		}
		logger.Info("the database file is rewritten once, so that its free pages can be given back to the disk")
		_, err := conn.ExecContext(ctx, "PRAGMA auto_vacuum = incremental; VACUUM")
		return err
	})
}
