package generator

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"strings"
)

// A Load says which requests are sent.
type Load struct {
	Name        string
	Description string
	Keys        int     // how many keys there are
	PutShare    float64 // the share of requests that write
	Zipf        bool    // some keys are asked for much more often than others; else all alike
	CacheKeys   int     // the bound of the cache of our backend; 0 leaves its default
}

// Loads are all loads, in the order in which they are measured. Those with the
// same CacheKeys stand together, since another bound needs other processes.
var Loads = []Load{
	{Name: "put", Description: "write a 100-byte JSON value over 1,000 keys", Keys: 1000, PutShare: 1},
	{Name: "get", Description: "read the latest value of 100 keys", Keys: 100},
	{Name: "mix", Description: "90 % reads and 10 % writes over 100,000 keys, Zipf 1.1, a cache of 1,000 keys", Keys: 100_000, PutShare: 0.1, Zipf: true, CacheKeys: 1000},
	{Name: "miss", Description: "read the latest value of 1,000 keys with a cache of 1 key", Keys: 1000, CacheKeys: 1},
}

// mixSkew is the exponent of the Zipf distribution of mix.
const mixSkew = 1.1

// A Picker returns which key the next request is for and whether it writes.
type Picker func() (key int, put bool)

// NewPicker returns the random choices of the load. The same seed makes the
// same choices for every side.
func (l Load) NewPicker(seed uint64) Picker {
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // the same choices in each run are wanted
	key := func() int { return random.IntN(l.Keys) }
	if l.Zipf {
		key = NewZipf(random, mixSkew, l.Keys).Next
	}
	return func() (int, bool) {
		return key(), l.PutShare > 0 && random.Float64() < l.PutShare
	}
}

// Key returns the name of the key with that number. It has no slash, which the
// routes of the predecessor do not take.
func (l Load) Key(number int) string {
	return "bench-" + l.Name + "-" + strconv.Itoa(number)
}

// A value is the JSON text "NAME SEQUENCE vvv…", where NAME is the key and
// SEQUENCE 16 digits that differ from write to write.
const (
	valueBytes    = 100
	sequenceBytes = 16
)

// AppendValue appends the JSON value that is written to key.
func AppendValue(dst []byte, key string, sequence uint64) []byte {
	dst = append(dst, '"')
	dst = append(dst, key...)
	dst = append(dst, ' ')
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, "0123456789abcdef"[sequence>>shift&15])
	}
	dst = append(dst, filler[:valueBytes-len(`"" `)-len(key)-sequenceBytes]...)
	return append(dst, '"')
}

var filler = strings.Repeat("v", valueBytes)

// Sequence returns the sequence number of a value that was read, and whether
// the value is one that was written to key.
func Sequence(value []byte, key string) (uint64, bool) {
	start := 1 + len(key) + 1
	if len(value) != valueBytes || string(value[1:start-1]) != key {
		return 0, false
	}
	sequence, err := strconv.ParseUint(string(value[start:start+sequenceBytes]), 16, 64)
	if err != nil {
		return 0, false
	}
	var whole [valueBytes]byte
	return sequence, bytes.Equal(value, AppendValue(whole[:0], key, sequence))
}
