package generator

import (
	"math"
	"math/rand/v2"
	"sort"
)

// Zipf draws numbers from 0 to n-1, where k comes with a probability in
// proportion to 1/(k+1)^skew. math/rand has that only for a skew above 1, and what
// is measured of caches is mostly below.
type Zipf struct {
	random *rand.Rand
	below  []float64 // the probability of a number up to that one, times a constant
}

// NewZipf returns a source of such numbers; skew may be 0, which makes all alike.
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
