package jsondoc_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kvstore/backend/jsondoc"
)

func patched(t *testing.T, document string, operations []string) string {
	t.Helper()
	patch, err := jsondoc.ParsePatch([]byte("[" + strings.Join(operations, ",") + "]"))
	if err != nil {
		t.Fatal(err)
	}
	result, err := patch.Apply([]byte(document), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return string(result)
}

// TestLongArray checks that an array of several pieces behaves like one.
func TestLongArray(t *testing.T) {
	for _, length := range []int{0, 1, 500, 1024, 5000} {
		want := make([]int, length)
		for i := range want {
			want[i] = i
		}
		document, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		operations := make([]string, 0, jsondoc.MaxOperations)
		for n := range jsondoc.MaxOperations {
			i := rand.IntN(len(want) + 1)
			switch { // first it grows within one piece, until that is two; then it shrinks
			case n < jsondoc.MaxOperations/2:
				i = min(i, 7)
				operations = append(operations, fmt.Sprintf(`{"op":"add","path":"/%d","value":%d}`, i, -n))
				want = slices.Insert(want, i, -n)
			case i == len(want):
				operations = append(operations, fmt.Sprintf(`{"op":"add","path":"/-","value":%d}`, -n))
				want = append(want, -n)
			case n%3 == 0:
				operations = append(operations, fmt.Sprintf(`{"op":"test","path":"/%d","value":%d},{"op":"replace","path":"/%d","value":%d}`, i, want[i], i, -n))
				want[i] = -n
			default:
				operations = append(operations, fmt.Sprintf(`{"op":"remove","path":"/%d"}`, i))
				want = slices.Delete(want, i, i+1)
			}
		}
		for part := range slices.Chunk(operations, jsondoc.MaxOperations/2) { // some are two
			document = []byte(patched(t, string(document), part))
		}
		var got []int
		if err := json.Unmarshal(document, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d elements: %s", length, diff)
		}
	}
}

// TestInsertionsAtTheFront checks that an insertion does not move the whole array. A
// thousand insertions at the front of half a million elements once took seconds.
func TestInsertionsAtTheFront(t *testing.T) {
	document := "[" + strings.Repeat("1,", 500_000) + "1]"
	took := func(path string) time.Duration {
		operations := slices.Repeat([]string{`{"op":"add","path":"` + path + `","value":1}`}, jsondoc.MaxOperations)
		best := time.Hour
		for range 3 {
			began := time.Now()
			patched(t, document, operations)
			best = min(best, time.Since(began))
		}
		return best
	}
	if front, back := took("/0"), took("/-"); front > 4*back {
		t.Errorf("at the front %s, at the end %s", front, back)
	}
}
