package database

import (
	"encoding/binary"
	"hash/crc32"

	"kvstore/backend/kv"
)

// SQLite has no checksum of what it stores: a bit that flips on the disk inside a value,
// a number or a text is another value to it. So every row of ours has one, made from what
// the row says when it is written and compared whenever the row is read. What does not
// fit is kv.ErrCorrupt and is never answered.
//
// A checksum is CRC-32C (Castagnoli, polynomial 0x1EDC6F41), kept as a signed number of 32
// bits, for which SQLite takes four bytes. It finds every change of up to three bits and every change within 32 bits in a
// row, and lets one in four thousand million of all others pass. It is in the standard
// library, and processors have an instruction for it. It is no protection from somebody who changes rows on purpose.
//
// It is over these bytes: a letter for the kind of row, then each of its members in the
// order of the functions below. A number is eight bytes, the highest first, in two's
// complement; a truth value is the number 0 or 1; a text is the number of its bytes and
// then these. So no two different rows have the same bytes.
//
// A version has two. One is over its value alone, the other over all the rest, its key,
// the length of the value and the value's checksum among it. So a listing is checked
// without reading values, and whoever reads a value checks that too. They share the
// column checksums, that of the value in its lower 32 bits.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// versionChecksum is that of a version whose value has that size and that checksum.
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

// parts takes checksumsOf apart.
func parts(checksums int64) (row, value int64) { return checksums >> 32, int64(int32(checksums)) }

// keyChecksum is that of a key's row.
func keyChecksum(key string, h Head) int64 {
	var buffer [512]byte
	b := append(buffer[:0], 'k')
	b = appendText(b, key)
	return sum(appendNumbers(b, h.ID, h.Version, h.Revision, int64(h.Time), h.TotalVersions, truth(h.Deleted), int64(h.Expires),
		h.CompleteFrom, h.Pruned))
}

// checksum is that of the row of the store.
func (s identity) checksum(t kv.Totals) int64 {
	b := appendText([]byte{'s'}, s.storeID)
	return sum(appendNumbers(b, s.created, t.Revision, t.Keys, t.Versions, t.Compacted, t.Forgotten, t.Restored))
}

// erasedChecksum is that of what is left of an erased key.
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
