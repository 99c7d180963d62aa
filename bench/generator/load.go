package generator

import (
	"bytes"
	"math"
	"math/rand/v2"
	"sort"
	"strconv"
	"strings"
)

// A Load describes which requests to send.
type Load struct {
	Name        string
	Description string
	Keys        int     // number of keys
	PutShare    float64 // share of writes
	Zipf        bool    // a Zipf distribution of keys, instead of a uniform one
	CacheKeys   int     // capacity of our backend's cache; 0 means the default
}

// Loads are all loads in the order in which they are measured. Those with the same CacheKeys are
// together, because another capacity needs new processes.
var Loads = []Load{
	{Name: "put", Description: "write a 100-byte JSON value over 1,000 keys", Keys: 1000, PutShare: 1},
	{Name: "get", Description: "read the latest value of 100 keys", Keys: 100},
	{Name: "mix", Description: "90 % reads and 10 % writes over 100,000 keys, Zipf 1.1, a cache of 1,000 keys", Keys: 100_000, PutShare: 0.1, Zipf: true, CacheKeys: 1000},
	{Name: "miss", Description: "read the latest value of 1,000 keys with a cache of 1 key", Keys: 1000, CacheKeys: 1},
}

// mixSkew is the exponent of the Zipf distribution of mix.
const mixSkew = 1.1

// A Picker returns the key of the next request and whether it writes.
type Picker func() (key int, put bool)

// NewPicker returns a random Picker. The same seed gives the same choices for every side.
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

// Key returns the name of a key. It has no slash, because the predecessor does not support slashes.
func (l Load) Key(number int) string {
	return "bench-" + l.Name + "-" + strconv.Itoa(number)
}

// A value is the JSON text "NAME SEQUENCE vvv…", where NAME is the key, and SEQUENCE is a unique
// number of 16 digits.
const (
	valueBytes    = 100
	sequenceBytes = 16
)

// AppendValue appends a JSON value for key.
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

// Sequence returns the sequence number in a value, and whether the value belongs to key.
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

// Zipf draws numbers from 0 to n-1, with the probability of k proportional to 1/(k+1)^skew. math/rand
// requires a skew above 1, but caches are mostly measured below that.
type Zipf struct {
	random *rand.Rand
	below  []float64 // cumulative weights
}

// NewZipf returns a new Zipf. A skew of 0 gives a uniform distribution.
func NewZipf(random *rand.Rand, skew float64, n int) *Zipf {
	below := make([]float64, n)
	var sum float64
	for k := range below {
		sum += math.Pow(float64(k+1), -skew)
		below[k] = sum
	}
	return &Zipf{random: random, below: below}
}

// Next returns the next number.
func (z *Zipf) Next() int {
	at := z.random.Float64() * z.below[len(z.below)-1]
	return min(sort.SearchFloat64s(z.below, at), len(z.below)-1)
}
