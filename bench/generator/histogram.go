package generator

import (
	"math/bits"
	"time"
)

// subBuckets divides each power of two; a quantile is at most 1/32 (3 %) too
// high.
const subBuckets = 32

// A Histogram counts durations. The zero value is empty.
type Histogram struct {
	Counts [64 * subBuckets]uint64 `json:"counts"`
	Total  uint64                  `json:"total"`
}

// Add counts one duration.
func (h *Histogram) Add(d time.Duration) {
	h.Counts[bucket(uint64(max(d, 0)))]++
	h.Total++
}

// Merge adds what other has counted.
func (h *Histogram) Merge(other *Histogram) {
	for i, n := range other.Counts {
		h.Counts[i] += n
	}
	h.Total += other.Total
}

// Quantile returns a duration that the share q of the counted ones does not
// exceed, and 0 when nothing was counted.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.Total))
	var seen uint64
	for i, n := range h.Counts {
		seen += n
		if n > 0 && seen > min(rank, h.Total-1) {
			return time.Duration(upper(i))
		}
	}
	return 0
}

// bucket returns the index for n: below subBuckets n itself, then the place of
// the highest bit followed by the five bits after it.
func bucket(n uint64) int {
	if n < subBuckets {
		return int(n)
	}
	shift := bits.Len64(n) - 6
	return (shift+1)*subBuckets + int(n>>shift) - subBuckets
}

// upper returns the largest number in the bucket i.
func upper(i int) uint64 {
	if i < subBuckets {
		return uint64(i)
	}
	shift := i/subBuckets - 1
	return uint64(i%subBuckets+subBuckets+1)<<shift - 1
}
