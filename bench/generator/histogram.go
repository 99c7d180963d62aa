package generator

import (
	"math/bits"
	"time"
)

// subBuckets is the number of buckets for each power of two. So a quantile is at most 1/32 (3 %) too
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

// Merge adds the counts of other.
func (h *Histogram) Merge(other *Histogram) {
	for i, n := range other.Counts {
		h.Counts[i] += n
	}
	h.Total += other.Total
}

// Quantile returns the q-quantile of the counted durations, or 0 if there are none.
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

// bucket returns the index for n: n itself below subBuckets, and otherwise the position of the highest
// bit followed by the next five bits.
func bucket(n uint64) int {
	if n < subBuckets {
		return int(n)
	}
	shift := bits.Len64(n) - 6
	return (shift+1)*subBuckets + int(n>>shift) - subBuckets
}

// upper returns the largest number in bucket i.
func upper(i int) uint64 {
	if i < subBuckets {
		return uint64(i)
	}
	shift := i/subBuckets - 1
	return uint64(i%subBuckets+subBuckets+1)<<shift - 1
}
