package jsondoc_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"kvstore/backend/jsondoc"
)

const limit = 1 << 20

func apply(document, patch string) (string, error) {
	p, err := jsondoc.ParsePatch([]byte(patch))
	if err != nil {
		return "", err
	}
	got, err := p.Apply([]byte(document), limit)
	return string(got), err
}

// TestApply runs the examples of RFC 6902 and cases that they leave open.
func TestApply(t *testing.T) {
	for _, test := range []struct{ document, patch, want string }{
		{`{"foo":"bar"}`, `[{"op":"add","path":"/baz","value":"qux"}]`, `{"foo":"bar","baz":"qux"}`},
		{`{"foo":["bar","baz"]}`, `[{"op":"add","path":"/foo/1","value":"qux"}]`, `{"foo":["bar","qux","baz"]}`},
		{`{"baz":"qux","foo":"bar"}`, `[{"op":"remove","path":"/baz"}]`, `{"foo":"bar"}`},
		{`{"foo":["bar","qux","baz"]}`, `[{"op":"remove","path":"/foo/1"}]`, `{"foo":["bar","baz"]}`},
		{`{"baz":"qux","foo":"bar"}`, `[{"op":"replace","path":"/baz","value":"boo"}]`, `{"baz":"boo","foo":"bar"}`},
		{
			`{"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}}`, `[{"op":"move","from":"/foo/waldo","path":"/qux/thud"}]`,
			`{"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}}`,
		},
		{`{"foo":["all","grass","cows","eat"]}`, `[{"op":"move","from":"/foo/1","path":"/foo/3"}]`, `{"foo":["all","cows","eat","grass"]}`},
		{`{"baz":"qux","foo":["a",2,"c"]}`, `[{"op":"test","path":"/baz","value":"qux"},{"op":"test","path":"/foo/1","value":2}]`, `{"baz":"qux","foo":["a",2,"c"]}`},
		{`{"foo":"bar"}`, `[{"op":"add","path":"/child","value":{"grandchild":{}}}]`, `{"foo":"bar","child":{"grandchild":{}}}`},
		{`{"foo":"bar"}`, `[{"op":"add","path":"/baz","value":"qux","xyz":123}]`, `{"foo":"bar","baz":"qux"}`},
		{`{"/":9,"~1":10}`, `[{"op":"test","path":"/~01","value":10}]`, `{"/":9,"~1":10}`},
		{`{"foo":["bar"]}`, `[{"op":"add","path":"/foo/-","value":["abc","def"]}]`, `{"foo":["bar",["abc","def"]]}`},
		// the whole document, of any kind
		{`5`, `[{"op":"replace","path":"","value":6}]`, `6`},
		{`null`, `[{"op":"add","path":"","value":{}},{"op":"add","path":"/a","value":null}]`, `{"a":null}`},
		{`{"a":[1]}`, `[{"op":"copy","from":"","path":"/b"}]`, `{"a":[1],"b":{"a":[1]}}`},
		{`{"a":[1]}`, `[{"op":"move","from":"/a","path":""}]`, `[1]`},
		{`[1]`, `[{"op":"move","from":"","path":""}]`, `[1]`},
		{`{"a":1}`, `[]`, `{"a":1}`},
		// names
		{`{"":{"":1}}`, `[{"op":"replace","path":"//","value":2}]`, `{"":{"":2}}`},
		{`{"a/b":1,"c~d":2,"日":3}`, `[{"op":"remove","path":"/a~1b"},{"op":"remove","path":"/c~0d"},{"op":"add","path":"/\u65e5","value":4}]`, `{"日":4}`},
		{`{"\u65e5":3,"<":1}`, `[{"op":"replace","path":"/日","value":4},{"op":"add","path":"/>&","value":1}]`, `{"\u65e5":4,"<":1,">&":1}`},
		// unchanged parts keep their text
		{
			"{ \"n\" : 12345678901234567890, \"f\":0.1000,\"e\":1E+2 , \"o\": { \"a\" : 1, \"a\" :2 }, \"s\":\"<&>\\u2028\\/\\ud800\" }", `[{"op":"add","path":"/z","value":[ 1.0 ]}]`,
			`{"n":12345678901234567890,"f":0.1000,"e":1E+2,"o":{ "a" : 1, "a" :2 },"s":"<&>\u2028\/\ud800","z":[ 1.0 ]}`,
		},
		{`{"\ud800":1,"\ud801":2}`, `[{"op":"add","path":"/z","value":3}]`, `{"\ud800":1,"\ud801":2,"z":3}`},
		{`{"a":1,"a":2,"b":{}}`, `[{"op":"add","path":"/b/c","value":1}]`, `{"a":2,"b":{"c":1}}`},
		{`{"a":1,"a":2}`, `[{"op":"remove","path":"/a"}]`, `{}`},
		// test compares values
		{`{"n":[10, -0, 1e400, 12345678901234567890]}`, `[{"op":"test","path":"/n","value":[1.0e1,0.0,10E+399,12345678901234567890.00]}]`, `{"n":[10, -0, 1e400, 12345678901234567890]}`},
		{`{"a":{"x":1,"y":[null,"\u00e9"]}}`, `[{"op":"test","path":"/a","value":{"y":[null,"é"],"x":1}}]`, `{"a":{"x":1,"y":[null,"\u00e9"]}}`},
		{`[1e99999999999999999999]`, `[{"op":"test","path":"/0","value":1e99999999999999999999}]`, `[1e99999999999999999999]`},
		// later operations see earlier ones
		{`{"a":[]}`, `[{"op":"add","path":"/a/-","value":{}},{"op":"add","path":"/a/0/b","value":1},{"op":"copy","from":"/a/0","path":"/c"},{"op":"remove","path":"/a/0/b"}]`, `{"a":[{}],"c":{"b":1}}`},
		{`{"a":{"b":1}}`, `[{"op":"move","from":"/a/b","path":"/a"}]`, `{"a":1}`},
		{`{"a":1,"b":2}`, `[{"op":"remove","path":"/a"},{"op":"add","path":"/a","value":3}]`, `{"b":2,"a":3}`},
		{` [ 1 , 2 ] `, `[{"op":"replace","path":"/0","value":0}]`, `[0,2]`},
	} {
		before := test.document
		got, err := apply(test.document, test.patch)
		if err != nil || got != test.want || test.document != before {
			t.Errorf("%s\n + %s\n = %s, %v, want\n   %s", test.document, test.patch, got, err, test.want)
		}
	}
}

func TestApplyConflicts(t *testing.T) {
	for _, test := range []struct {
		document, patch string
		operation       int
		pointer         string
	}{
		{`{}`, `[{"op":"test","path":"","value":{}},{"op":"remove","path":"/a"}]`, 1, "/a"},
		{`{"a":1}`, `[{"op":"replace","path":"/b","value":1}]`, 0, "/b"},
		{`{"a":1}`, `[{"op":"add","path":"/b/c","value":1}]`, 0, "/b/c"},
		{`{"a":1}`, `[{"op":"add","path":"/a/c","value":1}]`, 0, "/a/c"},
		{`[1]`, `[{"op":"add","path":"/2","value":1}]`, 0, "/2"},
		{`[1]`, `[{"op":"replace","path":"/1","value":1}]`, 0, "/1"},
		{`[1]`, `[{"op":"replace","path":"/-","value":1}]`, 0, "/-"},
		{`[1]`, `[{"op":"remove","path":"/-1"}]`, 0, "/-1"},
		{`[1,2]`, `[{"op":"remove","path":"/01"}]`, 0, "/01"},
		{`[1,2]`, `[{"op":"remove","path":"/+1"}]`, 0, "/+1"},
		{`[1,2]`, `[{"op":"remove","path":"/1e0"}]`, 0, "/1e0"},
		{`[1,2]`, `[{"op":"add","path":"/","value":1}]`, 0, "/"},
		{`[1,2]`, `[{"op":"add","path":"/99999999999999999999","value":1}]`, 0, "/99999999999999999999"},
		{`{"a":1}`, `[{"op":"remove","path":""}]`, 0, ""},
		{`{"a":1}`, `[{"op":"test","path":"/a","value":"1"}]`, 0, "/a"},
		{`{"a":1}`, `[{"op":"test","path":"/b","value":null}]`, 0, "/b"},
		{`[null,1]`, `[{"op":"test","path":"","value":[1,1]}]`, 0, ""},
		{`[1,1]`, `[{"op":"test","path":"","value":[null,1]}]`, 0, ""},
		{`[12345678901234567890]`, `[{"op":"test","path":"/0","value":12345678901234567891}]`, 0, "/0"},
		{`["\ud800"]`, `[{"op":"test","path":"/0","value":"\ufffd"}]`, 0, "/0"},
		{`{"\ud800":1}`, `[{"op":"remove","path":"/\ufffd"}]`, 0, "/\ufffd"},
		{`{"a":1}`, `[{"op":"move","from":"/b","path":"/c"}]`, 0, "/b"},
		{`{"a":1}`, `[{"op":"move","from":"/b","path":"/b"}]`, 0, "/b"},
		{`{"a":1}`, `[{"op":"copy","from":"/a","path":"/b/c"}]`, 0, "/b/c"},
		{`{"a":[1]}`, `[{"op":"move","from":"/a","path":"/b/c"}]`, 0, "/b/c"},
	} {
		_, err := apply(test.document, test.patch)
		var known *jsondoc.Error
		if !errors.Is(err, jsondoc.ErrConflict) || !errors.As(err, &known) || known.Operation != test.operation || known.Pointer != test.pointer || !known.HasPointer {
			t.Errorf("%s + %s = %v (%+v), want a conflict of operation %d at %q", test.document, test.patch, err, known, test.operation, test.pointer)
		}
	}
}

func TestParsePatchErrors(t *testing.T) {
	deep := strings.Repeat("/a", jsondoc.MaxDepth+1)
	for patch, operation := range map[string]int{
		``: -1, `{`: -1, `{}`: -1, `null`: -1, `5`: -1, `[1]x`: -1,
		`[` + strings.Repeat(`{"op":"remove","path":"/a"},`, jsondoc.MaxOperations) + `{"op":"remove","path":"/a"}]`: -1,
		`[null]`: 0, `[[]]`: 0, `[{}]`: 0, `[{"op":"remove","path":"/a"},{"op":1,"path":""}]`: 1,
		`[{"op":"Add","path":"","value":1}]`: 0, `[{"OP":"add","path":"","value":1}]`: 0, `[{"op":"remove"}]`: 0, `[{"op":"remove","path":null}]`: 0,
		`[{"op":"add","path":""}]`: 0, `[{"op":"test","path":""}]`: 0, `[{"op":"copy","path":""}]`: 0, `[{"op":"move","path":"","from":1}]`: 0,
		`[{"op":"remove","path":"a"}]`: 0, `[{"op":"remove","path":"/~"}]`: 0, `[{"op":"remove","path":"/~2"}]`: 0, `[{"op":"remove","path":"/a~0~"}]`: 0,
		`[{"op":"remove","path":"/\ud800"}]`: 0, `[{"op":"remove","op":"add","path":"/a","value":1}]`: 0, `[{"op":"move","from":"/a","path":"/a/b"}]`: 0,
		`[{"op":"move","from":"","path":"/b"}]`: 0, `[{"op":"remove","path":"` + deep + `"}]`: 0,
	} {
		_, err := jsondoc.ParsePatch([]byte(patch))
		var known *jsondoc.Error
		if !errors.Is(err, jsondoc.ErrInvalid) || !errors.As(err, &known) || known.Operation != operation {
			t.Errorf("%.80s: %v, want it invalid at operation %d", patch, err, operation)
		}
	}
}

// TestBombs runs short patches that ask for a lot of work.
func TestBombs(t *testing.T) {
	doubling := `[` + strings.Repeat(`{"op":"copy","from":"","path":"/a"},`, 60) + `{"op":"remove","path":"/a"}]`
	if _, err := apply(`{"x":"`+strings.Repeat("x", 1000)+`"}`, doubling); !errors.Is(err, jsondoc.ErrTooLarge) {
		t.Errorf("copies that double: %v", err)
	}
	deeper := `[` + strings.Repeat(`{"op":"add","path":"`+strings.Repeat("/0", 100)+`","value":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+`},{"op":"copy","from":"`+strings.Repeat("/0", 100)+`","path":""},`, 8)
	if _, err := apply(strings.Repeat("[", 5000)+strings.Repeat("]", 5000), strings.TrimSuffix(deeper, ",")+`]`); err != nil && !errors.Is(err, jsondoc.ErrConflict) {
		t.Errorf("deeper: %v", err)
	}
	nested := strings.Repeat("[", 9000) + strings.Repeat("]", 9000)
	if _, err := apply(`[[[`+nested+`]]]`, `[{"op":"add","path":"/0/0/0","value":`+nested+`},{"op":"move","from":"/0/0/1","path":"/0/1"},{"op":"copy","from":"/0","path":"/0/0/0`+strings.Repeat("/0", 100)+`/0"}]`); err != nil {
		t.Errorf("nested: %v", err)
	}
	spaced := strings.Replace(nested, "[]", "[ ]", 1)
	if _, err := apply(nested, `[{"op":"test","path":"","value":`+spaced+`}]`); !errors.Is(err, jsondoc.ErrConflict) {
		t.Errorf("a test of deep values: %v", err)
	}
	long := strings.Repeat(`{"a":`, 9990) + `1` + strings.Repeat("}", 9990)
	if _, err := apply(`[0]`, `[{"op":"add","path":"/0","value":`+long+`},{"op":"add","path":"/1","value":[[[[[[[[[[[[0]]]]]]]]]]]]}]`); err != nil {
		t.Error(err)
	}
	if _, err := apply(`[[[[[[[[[[[0]]]]]]]]]]]`, `[{"op":"add","path":"/0/0/0/0/0/0/0/0/0/0/0","value":`+long+`}]`); !errors.Is(err, jsondoc.ErrConflict) {
		t.Errorf("a result of 10,001 levels: %v", err)
	}
	if err := jsondoc.CheckMerge([]byte(long)); !errors.Is(err, jsondoc.ErrInvalid) {
		t.Errorf("a deep merge patch: %v", err)
	}
}

// TestMerge runs the examples of RFC 7396, appendix A, and texts that must not change.
func TestMerge(t *testing.T) {
	for _, test := range []struct{ document, patch, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`["a","b"]`, `["c","d"]`, `["c","d"]`},
		{`{"a":"b"}`, `["c"]`, `["c"]`},
		{`{"a":"foo"}`, `null`, `null`},
		{`{"a":"foo"}`, `"bar"`, `"bar"`},
		{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		{`null`, `{"a":1}`, `{"a":1}`},
		{`{"a":1}`, `{"a":[{"b":null}]}`, `{"a":[{"b":null}]}`},
		{`{ "n" : 12345678901234567890 }`, `{}`, `{ "n" : 12345678901234567890 }`},
		{
			`{"n":12345678901234567890,"f":0.1000,"s":"<&>","o":{ "x" : [ 1 ] },"\u65e5":1}`, `{"日":2.0,"z":{"y":null,"<":1E2},"a":3}`,
			`{"n":12345678901234567890,"f":0.1000,"s":"<&>","o":{ "x" : [ 1 ] },"\u65e5":2.0,"z":{"<":1E2},"a":3}`,
		},
	} {
		if err := jsondoc.CheckMerge([]byte(test.patch)); err != nil {
			t.Errorf("%s: %v", test.patch, err)
		}
		got, err := jsondoc.Merge([]byte(test.document), []byte(test.patch))
		if err != nil || string(got) != test.want {
			t.Errorf("%s merged with %s = %s, %v, want %s", test.document, test.patch, got, err, test.want)
		}
	}
	for _, patch := range []string{``, `{`, `{"a":1,"a":2}`, `{"a":{"\u0062":1,"b":2}}`} {
		if err := jsondoc.CheckMerge([]byte(patch)); !errors.Is(err, jsondoc.ErrInvalid) {
			t.Errorf("%s: %v", patch, err)
		}
	}
}

var names = []string{"", "a", "b", "日本", "~", "/", "~1", "a/b", `"`, `\`, "<&>", "\u2028", "0", "-", "é"}

func random(r *rand.Rand, depth int) any {
	kinds := 8
	if depth == 0 {
		kinds = 6
	}
	switch r.IntN(kinds) {
	case 0:
		return nil
	case 1:
		return r.IntN(2) == 0
	case 2:
		return names[r.IntN(len(names))]
	case 3:
		return json.Number([]string{"0", "-0", "0.1000", "0.1", "1e400", "12345678901234567890", "12345678901234567891"}[r.IntN(7)])
	case 4, 5:
		return json.Number(strconv.Itoa(r.IntN(100)))
	case 6:
		array := make([]any, r.IntN(6))
		for i := range array {
			array[i] = random(r, depth-1)
		}
		return array
	default:
		object := map[string]any{}
		for range r.IntN(6) {
			object[names[r.IntN(len(names))]] = random(r, depth-1)
		}
		return object
	}
}

// mutate changes one value in a document.
func mutate(r *rand.Rand, v any) any {
	switch v := v.(type) {
	case []any:
		changed := append([]any{}, v...)
		i := r.IntN(len(v) + 1)
		switch {
		case i == len(v) || r.IntN(4) == 0:
			return append(changed[:i:i], append([]any{random(r, 2)}, changed[i:]...)...)
		case r.IntN(3) == 0:
			return append(changed[:i:i], changed[i+1:]...)
		}
		changed[i] = mutate(r, changed[i])
		return changed
	case map[string]any:
		changed := map[string]any{}
		for name, value := range v {
			changed[name] = value
		}
		name := names[r.IntN(len(names))]
		if value, ok := changed[name]; ok && r.IntN(3) > 0 {
			changed[name] = mutate(r, value)
		} else if ok {
			delete(changed, name)
		} else {
			changed[name] = random(r, 2)
		}
		return changed
	default:
		return random(r, 2)
	}
}

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

func decode(t testing.TB, text []byte) any {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%v in %.200s", err, text)
	}
	return v
}
