package database

import (
	"encoding/binary"
	"hash/crc32"

	"kvstore/backend/kv"
)

// SQLite does not notice when a bit of a value, a number or a text flips on the disk. So every row
// has a checksum of its members, which is computed when the row is written and compared
// whenever it is read. A row that does not match is kv.ErrCorrupt and is not served.
//
// A checksum is CRC-32C (Castagnoli, polynomial 0x1EDC6F41), stored as a signed number of 32
// bits, which takes four bytes. It detects every change of up to three bits, every change within
// 32 consecutive bits, and all but one in four thousand million of the others. It does not protect
// from somebody who changes rows on purpose.
//
// Its input is a letter for the kind of row, then the members in the order of the functions below.
// A number is eight bytes in two's complement, the highest first; a truth value is 0 or 1; a text
// is the number of its bytes, then the bytes. So different rows have different input.
//
// A version has two, in the column checksums: one of its value, in the lower 32 bits, and one of
// all the rest, including its key, the length of the value and the value's checksum. So a list
// is checked without reading values.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// versionChecksum is that of a version but for its value, which has that size and checksum.
func versionChecksum(e *kv.Entry, size, value int64) int64 {
	var buffer [512]byte
	b := append(buffer[:0], 'v')
	b = appendText(b, e.Key)
	b = appendNumbers(b, e.Version, e.Revision, int64(e.Time))
	b = appendText(b, string(e.Operation))
	b = appendText(b, e.ContentType)
	b = appendText(b, e.Author)
	b = appendNumbers(b, int64(e.Expires), truth(e.Destroyed), size, value)
	return sum(b)
}

// checksumsOf returns both checksums of a version.
func checksumsOf(e *kv.Entry) int64 {
	value := sum(e.Value)
	return versionChecksum(e, int64(len(e.Value)), value)<<32 | value&0xffffffff
}

// parts splits the result of checksumsOf.
func parts(checksums int64) (row, value int64) { return checksums >> 32, int64(int32(checksums)) }

// keyChecksum is that of a key's row.
func keyChecksum(key string, h Head) int64 {
	var buffer [512]byte
	b := append(buffer[:0], 'k')
	b = appendText(b, key)
	return sum(appendNumbers(b, h.ID, h.Version, h.Revision, int64(h.Time), h.TotalVersions,
		truth(h.Deleted), int64(h.Expires), h.CompleteFrom, h.Pruned))
}

// Checksum is that of the row of the store.
func (s Identity) Checksum(t kv.Totals) int64 {
	b := appendText([]byte{'s'}, s.StoreID)
	return sum(appendNumbers(b, s.Created, t.Revision, t.Keys, t.Versions, t.Compacted, t.Forgotten, t.Restored))
}

// erasedChecksum is that of the row of an erased key.
func erasedChecksum(digest []byte, version int64) int64 {
	return sum(appendNumbers(appendText([]byte{'e'}, string(digest)), version))
}

func sum(b []byte) int64 { return int64(int32(crc32.Checksum(b, castagnoli))) }

func appendNumbers(b []byte, numbers ...int64) []byte {
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return b
}

func appendText(b []byte, text string) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(len(text)))
	return append(b, text...)
}

func truth(is bool) int64 {
	if is {
		return 1
	}
	return 0
}
