package sqlite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// With secure_delete SQLite overwrites the rows and pages that it frees. But when it
// balances the pages of a table it may pack the rows of a page closer together, and
// then leaves copies of some in the unallocated gap between the page's list of rows
// and the rows (rebuildPage in its source). Such a copy survives the row. So after a
// destruction the gaps of all pages are overwritten, in the file, while nobody
// writes them. SQLite never reads a gap: whatever it has of it in memory or loses of it
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

// openPages opens the file for Scrub. It must be opened once and stay open until
// every connection is closed: when a process closes a file, it loses the locks that
// SQLite has on the same file.
func openPages(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR, 0) }

// findGaps reads the file, and calls found with the numbers of the pages whose gaps have
// something in them, for each group of pages. A page that is written meanwhile may be
// missing, or be named without a reason.
func findGaps(file *os.File, found func(pages []int64) error) error {
	header := make([]byte, 100)
	if _, err := file.ReadAt(header, 0); err != nil {
		return fmt.Errorf("read the header of the file: %w", err)
	}
	if size := binary.BigEndian.Uint16(header[offsetPageSize:]); size != pageSize || header[offsetReserved] != 0 ||
		binary.BigEndian.Uint32(header[offsetAutoRoot:]) == 0 {
		return errors.New("the file has not the layout of this program")
	}
	group := make([]byte, mapPages*pageSize) // a page of the map and those that it tells of
	for first := int64(mapsFirst); ; first += mapPages {
		n, err := file.ReadAt(group, (first-1)*pageSize)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read pages: %w", err)
		}
		ended := err != nil
		var pages []int64
		for at := pageSize; at+pageSize <= n; at += pageSize {
			page := group[at : at+pageSize]
			if from, to := gapOf(group[mapEntry*(at/pageSize-1)], page); !isZero(page[from:to]) {
				pages = append(pages, first+int64(at/pageSize))
			}
		}
		if err := found(pages); err != nil || ended {
			return err
		}
	}
}

// clearGap overwrites what is left in the gap of a page. Nobody may write the page
// meanwhile, nor may the write-ahead log have it.
func clearGap(file *os.File, number int64) error {
	behind := (number - mapsFirst) % mapPages // how far it is from the page of the map that tells of it
	if number < mapsFirst || behind == 0 {
		return nil
	}
	kind, page := make([]byte, 1), make([]byte, pageSize)
	offset := (number - 1) * pageSize
	_, err := file.ReadAt(page, offset)
	if errors.Is(err, io.EOF) { // the file has become smaller
		return nil
	}
	if err == nil {
		_, err = file.ReadAt(kind, offset-behind*pageSize+mapEntry*(behind-1))
	}
	if err != nil {
		return fmt.Errorf("read a page: %w", err)
	}
	from, to := gapOf(kind[0], page)
	if isZero(page[from:to]) {
		return nil
	}
	clear(page[from:to])
	if _, err := file.WriteAt(page[from:to], offset+int64(from)); err != nil {
		return fmt.Errorf("overwrite what is left in a page: %w", err)
	}
	return nil
}

// The write-ahead log has a header, and frames of a header and a page each. The header of
// the log has the salts of its frames; other frames are left from before SQLite began to
// write it from the beginning again.
const (
	logHeader   = 32
	frameHeader = 24
	offsetSalts = 16 // in the header of the log
	frameSalts  = 8
	saltBytes   = 8
)

// changedPages adds the numbers of all pages that the write-ahead log has to those.
func changedPages(log *os.File, pages map[int64]struct{}) error {
	header := make([]byte, logHeader)
	_, err := log.ReadAt(header, 0)
	salts := string(header[offsetSalts : offsetSalts+saltBytes])
	frame := make([]byte, frameHeader)
	for offset := int64(logHeader); err == nil; offset += frameHeader + pageSize {
		if _, err = log.ReadAt(frame, offset); err != nil || string(frame[frameSalts:frameSalts+saltBytes]) != salts {
			break
		}
		pages[int64(binary.BigEndian.Uint32(frame))] = struct{}{}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the write-ahead log: %w", err)
	}
	return nil
}

// gapOf returns where the unallocated part of a page of a tree begins and ends: 0 and
// 0 when the page is none, by its kind in the pointer map, or does not say.
func gapOf(kind byte, page []byte) (from, to int) {
	if kind != kindRoot && kind != kindTree {
		return 0, 0
	}
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

var zeros [pageSize]byte

func isZero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }
