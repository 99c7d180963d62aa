package generator_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"kvstore/bench/generator"
)

func TestZipf(t *testing.T) {
	const n, draws = 1000, 400_000
	for _, skew := range []float64{0, 0.7, 1, 1.3} {
		zipf := generator.NewZipf(rand.New(rand.NewPCG(5, 6)), skew, n)
		counts := make([]int, n)
		for range draws {
			counts[zipf.Next()]++ // panics if it is out of range
		}
		var sum float64
		for k := range n {
			sum += math.Pow(float64(k+1), -skew)
		}
		for _, k := range []int{0, 1, 9, 99, n - 1} {
			want := draws * math.Pow(float64(k+1), -skew) / sum
			if off := math.Abs(float64(counts[k]) - want); off > 6*math.Sqrt(want)+1 {
				t.Errorf("skew %v: %d was drawn %d times, want about %.0f", skew, k, counts[k], want)
			}
		}
	}
}

// The same seed gives the same requests for every side.
func TestPicker(t *testing.T) {
	mix := generator.Loads[2]
	first, second, other := mix.NewPicker(1), mix.NewPicker(1), mix.NewPicker(2)
	writes, differ := 0, 0
	for range 20_000 {
		key, put := first()
		againKey, againPut := second()
		if key != againKey || put != againPut {
			t.Fatal("the same seed made another choice")
		}
		if otherKey, _ := other(); otherKey != key {
			differ++
		}
		if put {
			writes++
		}
		if key < 0 || key >= mix.Keys {
			t.Fatalf("there is no key %d", key)
		}
	}
	if writes < 1800 || writes > 2200 {
		t.Errorf("%d of 20000 requests write, want about 2000", writes)
	}
	if differ == 0 {
		t.Error("another seed made the same choices")
	}
}
