package sqlite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// With secure_delete SQLite overwrites the rows and pages that it frees. But when it balances
// pages it may pack the rows of a page closer together, and then leaves copies of some in
// the unallocated gap between the page's list of rows and the rows (rebuildPage in its source).
// Such a copy outlives the row. So a destruction also overwrites the gaps of all pages, in
// the file, while nobody writes those pages. SQLite never reads a gap, so neither its cache nor a
// crash can make this visible.

// pageSize is that of every file of this program, SQLite's default.
const pageSize = 4096

const (
	// SQLite's header of a file.
	offsetPageSize = 16
	offsetReserved = 20
	offsetAutoRoot = 52 // not 0 in a file with a pointer map
	// A page of the pointer map has five bytes, the kind first, for each of the pages that follow,
	// up to the next page of the map.
	mapEntry  = 5
	mapPages  = pageSize/mapEntry + 1
	kindRoot  = 1
	kindTree  = 5
	mapsFirst = 2 // the number of the first page of the map
)

// openPages opens the file for Scrub. It must stay open until every connection is closed: closing
// it would release the locks that SQLite has on the file.
func openPages(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR, 0) }

// findGaps reads the file, and calls found, for each group of pages, with the numbers of those
// whose gaps are not zero. It may be wrong about a page that is written meanwhile.
func findGaps(file *os.File, found func(pages []int64) error) error {
	header := make([]byte, 100)
	if _, err := file.ReadAt(header, 0); err != nil {
		return fmt.Errorf("read the header of the file: %w", err)
	}
	if size := binary.BigEndian.Uint16(header[offsetPageSize:]); size != pageSize || header[offsetReserved] != 0 ||
		binary.BigEndian.Uint32(header[offsetAutoRoot:]) == 0 {
		return errors.New("the file has not the layout of this program")
	}
	group := make([]byte, mapPages*pageSize) // a page of the map and those that it describes
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

// clearGap overwrites the gap of a page. Nobody may write the page meanwhile, nor may the log have
// a newer one.
func clearGap(file *os.File, number int64) error {
	behind := (number - mapsFirst) % mapPages // its distance from the page of the map that describes it
	if number < mapsFirst || behind == 0 {
		return nil
	}
	kind, page := make([]byte, 1), make([]byte, pageSize)
	offset := (number - 1) * pageSize
	_, err := file.ReadAt(page, offset)
	if errors.Is(err, io.EOF) { // the file has shrunk
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
// the log has the salts of its frames. Frames with others are left from an earlier log.
const (
	logHeader   = 32
	frameHeader = 24
	offsetSalts = 16 // in the header of the log
	frameSalts  = 8
	saltBytes   = 8
)

// changedPages adds the numbers of all pages in the write-ahead log to pages.
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

// gapOf returns where the gap of a page begins and ends. It has none unless it is a page of a tree,
// by its kind in the pointer map.
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
