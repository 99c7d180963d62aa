package jsondoc_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"kvstore/backend/jsondoc"
)

func TestDiff(t *testing.T) {
	many := strings.Repeat("1,", 5000)
	name := strings.Repeat("n", 20_000)
	for _, test := range []struct{ from, to, want string }{
		{`{"a":1}`, ` { "a" : 1 } `, `[]`},
		{`{"a":1,"b":2}`, `{"b":2,"a":1}`, `[]`},
		{`"\u0061"`, `"a"`, `[]`},
		{`1`, `1.0`, `[{"op":"replace","path":"","value":1.0}]`},
		{`{"n":[12345678901234567890]}`, `{"n":[12345678901234567891]}`, `[{"op":"replace","path":"/n/0","value":12345678901234567891}]`},
		{`{"a":1,"b":[1,2,3,"` + name + `"],"c":null}`, `{"b":[1,2,3,"` + name + `"],"c":{}}`, `[{"op":"remove","path":"/a"},{"op":"replace","path":"/c","value":{}}]`},
		{`{"a~/b":"<&>","d":"` + name + `"}`, `{"a~/b":"&","":0,"d":"` + name + `"}`, `[{"op":"replace","path":"/a~0~1b","value":"&"},{"op":"add","path":"/","value":0}]`},
		{`{"a":1}`, `{"a":2}`, `[{"op":"replace","path":"/a","value":2}]`},
		{`{"aaa":{"bbb":1}}`, `{"aaa":{"bbb":2}}`, `[{"op":"replace","path":"/aaa/bbb","value":2}]`},
		{`{"a":{"b":1,"c":1}}`, `{"a":{"b":2,"c":2}}`, `[{"op":"replace","path":"/a/b","value":2},{"op":"replace","path":"/a/c","value":2}]`},
		{`{"a":1,"list":[1,2,3]}`, `{"a":2,"list":[1,3],"new":null}`, `[{"op":"replace","path":"/a","value":2},{"op":"remove","path":"/list/1"},{"op":"add","path":"/new","value":null}]`},
		{`[1,2,3,4,5,6]`, `[2,3,9,5,6,7,8]`, `[{"op":"add","path":"/6","value":7},{"op":"add","path":"/7","value":8},{"op":"replace","path":"/3","value":9},{"op":"remove","path":"/0"}]`},
		{`[1,2,3,4]`, `[1,9,4]`, `[{"op":"remove","path":"/2"},{"op":"replace","path":"/1","value":9}]`},
		{`[` + many + `1]`, `[0,` + many + `0,1]`, `[{"op":"add","path":"/5000","value":0},{"op":"add","path":"/0","value":0}]`},
		{`[{"id":1,"n":1},{"id":2,"n":2},{"id":3,"n":3}]`, `[{"id":2,"n":9},{"n":3,"id":3}]`, `[{"op":"replace","path":"/1/n","value":9},{"op":"remove","path":"/0"}]`},
		{`[{"a":1},{"b":1}]`, `[{"c":1},{"b":2}]`, `[{"op":"replace","path":"/1/b","value":2},{"op":"replace","path":"/0","value":{"c":1}}]`},
		{`[{}]`, `[{"a":1}]`, `[{"op":"add","path":"/0/a","value":1}]`},
		{`[[1,2],[3,4]]`, `[[1,2],[3,5]]`, `[{"op":"replace","path":"/1/1","value":5}]`},
		{`[1,{"a":[1, 2]},"x"]`, `[{"\u0061":[1,2]},"\u0078",1]`, `[{"op":"add","path":"/3","value":1},{"op":"remove","path":"/0"}]`},
		{`{"a":1}`, `[1]`, `[{"op":"replace","path":"","value":[1]}]`},
		{`{"a":{"x":1}}`, `{"a":[1]}`, `[{"op":"replace","path":"/a","value":[1]}]`},
		{`{}`, `{"a":1}`, `[{"op":"add","path":"/a","value":1}]`},
		{`{"a":1}`, `{}`, `[{"op":"remove","path":"/a"}]`},
		{`[1]`, `[]`, `[{"op":"remove","path":"/0"}]`},
		{`{"k":{"\ud800":1,"b":1},"c":1}`, `{"k":{"\ud800":2,"b":1},"c":2}`, `[{"op":"replace","path":"/k","value":{"\ud800":2,"b":1}},{"op":"replace","path":"/c","value":2}]`},
		{`{"\ud800":[1],"c":1}`, `{"\ud800":[ 1 ],"c":2}`, `[{"op":"replace","path":"/c","value":2}]`},
		{`[` + many + `2]`, `[0,` + many + `2]`, `[{"op":"add","path":"/0","value":0}]`},
		{`[` + many + `2,3]`, `[` + many + `3]`, `[{"op":"remove","path":"/5000"}]`},
		{`[` + many + `1]`, `[]`, `[{"op":"replace","path":"","value":[]}]`},
		{`"\ud800"`, `"\ud801"`, `[{"op":"replace","path":"","value":"\ud801"}]`},
		{`{"\ud800":1,"k":"` + name + `"}`, `{"\ud800":2,"k":"` + name + `"}`, `[{"op":"replace","path":"","value":{"\ud800":2,"k":"` + name + `"}}]`},
		{`{"` + name + `":[` + many + `0]}`, `{"` + name + `":[` + strings.ReplaceAll(many, "1", "2") + `0]}`, `[{"op":"replace","path":"","value":{"` + name + `":[` + strings.ReplaceAll(many, "1", "2") + `0]}}]`},
	} {
		got, err := jsondoc.Diff([]byte(test.from), []byte(test.to))
		if err != nil || string(got) != test.want {
			t.Errorf("from %.100s to %.100s: %.200s, %v, want %.200s", test.from, test.to, got, err, test.want)
		}
	}
}

// TestDiffOfRandom checks that the patch turns from into to, digit for digit.
func TestDiffOfRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	small := 0
	for range 10_000 {
		from := random(r, 4)
		to := random(r, 4)
		if r.IntN(3) > 0 {
			to = mutate(r, from)
		}
		a, b := encode(from), encode(to)
		patch, err := jsondoc.Diff(a, b)
		if err != nil {
			t.Fatal(err)
		}
		got, err := apply(string(a), string(patch))
		if err != nil || !reflect.DeepEqual(decode(t, []byte(got)), decode(t, b)) {
			t.Fatalf("%s\n + %s\n = %s, %v, want\n   %s", a, patch, got, err, b)
		}
		whole := bytes.HasPrefix(patch, []byte(`[{"op":"replace","path":""`))
		if a[0] == b[0] && (a[0] == '{' || a[0] == '[') && whole {
			t.Fatalf("%s replaces the whole, from %s to %s", patch, a, b)
		}
		if !whole {
			small++
		}
	}
	if small < 1500 {
		t.Errorf("only %d of 10,000 patches do not replace the document", small)
	}
}

// TestDiffOfLists checks that the patch keeps a longest common subsequence.
func TestDiffOfLists(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	list := func(n, letters int) []int {
		all := make([]int, r.IntN(n))
		for i := range all {
			all[i] = r.IntN(letters)
		}
		return all
	}
	for range 5_000 {
		n, letters := 1+r.IntN(60), 1+r.IntN(20)
		from, to := list(n, letters), list(n, letters)
		a, b := encode(from), encode(to)
		patch, err := jsondoc.Diff(a, b)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := apply(string(a), string(patch)); err != nil || got != string(b) {
			t.Fatalf("%s + %s = %s, %v, want %s", a, patch, got, err, b)
		}
		taken := bytes.Count(patch, []byte(`"op":"remove"`)) + bytes.Count(patch, []byte(`"op":"replace"`))
		if common := commonLength(from, to); len(from)-taken != common {
			t.Fatalf("from %s to %s %s leaves %d, want %d", a, b, patch, len(from)-taken, common)
		}
	}
}

// commonLength returns the length of a longest common subsequence, by definition.
func commonLength(a, b []int) int {
	best := make([][]int, len(a)+1)
	for i := range best {
		best[i] = make([]int, len(b)+1)
	}
	for i := range a {
		for j := range b {
			if best[i+1][j+1] = max(best[i][j+1], best[i+1][j]); a[i] == b[j] {
				best[i+1][j+1] = best[i][j] + 1
			}
		}
	}
	return best[len(a)][len(b)]
}

// TestDiffBounds checks that hard texts of 1 MiB take bounded time and memory, and
// result in at most MaxOperations operations.
func TestDiffBounds(t *testing.T) {
	const size = 1 << 20
	r := rand.New(rand.NewPCG(5, 6))
	random := func(letters int) string {
		var b strings.Builder
		for b.Len() < size {
			fmt.Fprintf(&b, "%d,", r.IntN(letters))
		}
		return "[" + b.String() + "0]"
	}
	some := func(text string, n int) string { // with some elements changed
		elements := strings.Split(strings.Trim(text, "[]"), ",")
		for range n {
			elements[r.IntN(len(elements))] = "77"
		}
		return "[" + strings.Join(elements, ",") + "]"
	}
	two, many := random(2), random(1_000_000)
	ones := strings.Repeat("1,", size/4)
	wide := strings.Repeat(`{"id":1,"a":"x","b":[1,2,3]},`, size/30)
	deep := func(leaf string) string { return strings.Repeat(`[ {"a":`, 100) + leaf + strings.Repeat(`}]`, 100) }
	for name, texts := range map[string][2]string{
		"of two letters":    {two, random(2)},
		"all different":     {many, random(1_000_000)},
		"some of many":      {many, some(many, 400)},
		"some of two":       {two, some(two, 400)},
		"half of the ones":  {"[" + ones + ones + "1]", "[0," + ones + "0,1]"},
		"ones and twos":     {"[" + strings.Repeat("1,2,", size/8) + "3]", "[" + strings.Repeat("2,1,", size/8) + "4]"},
		"objects":           {"[" + wide + "0]", "[0," + strings.ReplaceAll(wide, `"x"`, `"y"`) + "1]"},
		"small objects":     {"[" + strings.Repeat(`{"a":1},`, size/8) + "1]", "[" + strings.Repeat(`{"b":1},`, size/8) + "2]"},
		"deep":              {deep("[" + ones + "1]"), deep("[0," + ones + "2]")},
		"long names":        {`{"` + strings.Repeat("n", size/4) + `":[` + ones[:4000] + `1]}`, `{"` + strings.Repeat("n", size/4) + `":[` + strings.ReplaceAll(ones[:1800], "1", "2") + `1]}`},
		"names that change": {"{" + strings.Repeat(`"a":1,`, size/8) + `"b":1}`, "{" + strings.Repeat(`"a":2,`, size/8) + `"b":2}`},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := []byte(texts[0]), []byte(texts[1])
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			text, err := jsondoc.Diff(a, b)
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if err != nil {
				t.Fatal(err)
			}
			allocated := (after.TotalAlloc - before.TotalAlloc) / uint64(len(a)+len(b))
			t.Logf("%s, %d bytes allocated for each of the texts, a patch of %d bytes", took, allocated, len(text))
			if took > time.Minute || allocated > 400 || len(text) > 3*len(a)+3*len(b) {
				t.Errorf("%s, %d bytes allocated for each of the texts, a patch of %d", took, allocated, len(text))
			}
			patch, err := jsondoc.ParsePatch(text)
			if err != nil {
				t.Fatal(err)
			}
			got, err := patch.Apply(a, 0)
			if err != nil || !reflect.DeepEqual(decode(t, got), decode(t, b)) {
				t.Errorf("the patch of %d bytes does not give it: %v", len(text), err)
			}
		})
	}
}
