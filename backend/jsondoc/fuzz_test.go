package jsondoc_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"kvstore/backend/jsondoc"
)

var documents = []string{
	`{}`, `[]`, `null`, `1`, `"a"`, ` { "a" : [ 1 , null ] } `, `{"a":{"b":{"c":1}},"a":2}`, `{"":{"":0}}`, `[[[1]],{"x":"\ud800"}]`, `{"\ud800":1}`,
	`{"n":12345678901234567890,"f":0.1000,"e":-1E+2}`, `{"a~/b":"\u65e5\/"}`, `{`, ``,
}

func valid(texts ...[]byte) bool {
	for _, text := range texts {
		if !json.Valid(text) || !utf8.Valid(text) {
			return false
		}
	}
	return true
}

// FuzzMerge compares Merge with the algorithm of RFC 7396 on decoded values.
func FuzzMerge(f *testing.F) {
	for _, document := range documents {
		for _, patch := range append(documents, `{"a":null}`, `{"a":{"b":null,"d":[{"e":null}]}}`, `{"\u0061":1,"":{"":null}}`) {
			f.Add([]byte(document), []byte(patch))
		}
	}
	f.Fuzz(func(t *testing.T, document, patch []byte) {
		if jsondoc.CheckMerge(patch) != nil {
			return
		}
		before := bytes.Clone(document)
		got, err := jsondoc.Merge(document, patch)
		switch {
		case !bytes.Equal(before, document):
			t.Fatal("the document was changed")
		case err != nil && valid(document) && len(document)+len(patch) < jsondoc.MaxNesting:
			t.Fatalf("%q merged with %q: %v", document, patch, err)
		case err != nil:
			return
		case !json.Valid(got):
			t.Fatalf("%q merged with %q = %q", document, patch, got)
		case surrogates(document, patch):
			return // encoding/json cannot tell
		}
		if want := merge(decode(t, document), decode(t, patch)); !reflect.DeepEqual(decode(t, got), want) {
			t.Fatalf("%q merged with %q = %q, want %v", document, patch, got, want)
		}
	})
}

func surrogates(texts ...[]byte) bool {
	for _, text := range texts {
		if strings.Contains(strings.ToLower(string(text)), `\ud`) || bytes.Contains(bytes.ToLower(text), []byte(`\ufffd`)) || !bytes.Equal(bytes.ToValidUTF8(text, nil), text) {
			return true
		}
	}
	return false
}

// merge is the algorithm of RFC 7396, section 2.
func merge(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for name, value := range changes {
		if value == nil {
			delete(object, name)
		} else {
			object[name] = merge(object[name], value)
		}
	}
	return object
}

// FuzzPatch compares Apply with RFC 6902 on decoded values.
func FuzzPatch(f *testing.F) {
	for _, document := range documents {
		for _, patch := range []string{
			`[]`, `[null]`, `[{"op":"add","path":"/a/-","value":{"b":1}},{"op":"copy","from":"/a","path":"/b"},{"op":"move","from":"/b/0","path":""}]`,
			`[{"op":"test","path":"","value":{"a":[1.0,null]}},{"op":"remove","path":"/a/1"},{"op":"replace","path":"/a/0","value":null}]`,
			`[{"op":"copy","from":"","path":"/a"},{"op":"copy","from":"","path":"/a/a"},{"op":"test","path":"/a/a/n","value":12345678901234567890.0}]`,
			`[{"op":"remove","path":"/a~0~1b"}]`, `[{"op":"remove","path":"/\ud800"}]`, `[{"op":"add","path":"/0/0/01","value":1}]`, `{`, ``,
		} {
			f.Add([]byte(document), []byte(patch))
		}
	}
	f.Fuzz(func(t *testing.T, document, text []byte) {
		patch, err := jsondoc.ParsePatch(text)
		if err != nil {
			return
		}
		before := bytes.Clone(document)
		got, err := patch.Apply(document, 1<<16)
		if !bytes.Equal(before, document) {
			t.Fatal("the document was changed")
		}
		if err == nil && !json.Valid(got) {
			t.Fatalf("%q + %q = %q", document, text, got)
		}
		if again, errAgain := patch.Apply(document, 1<<16); !bytes.Equal(again, got) || (err == nil) != (errAgain == nil) {
			t.Fatalf("%q + %q = %q and then %q", document, text, got, again)
		}
		if !valid(document) || surrogates(document, text) || len(document)+len(text) > jsondoc.MaxNesting || errors.Is(err, jsondoc.ErrTooLarge) {
			return
		}
		want, failure := applied(t, decode(t, document), text)
		if errors.Is(failure, errTest) {
			return
		}
		if (failure == nil) != (err == nil) || err == nil && !reflect.DeepEqual(decode(t, got), want) {
			t.Fatalf("%q + %q = %q, %v, want %v, %v", document, text, got, err, want, failure)
		}
	})
}

func FuzzDiff(f *testing.F) {
	for _, from := range documents {
		for _, to := range documents {
			f.Add([]byte(from), []byte(to))
		}
	}
	f.Fuzz(func(t *testing.T, from, to []byte) {
		text, err := jsondoc.Diff(from, to)
		if (err == nil) != valid(from, to) {
			t.Fatalf("from %q to %q: %v", from, to, err)
		}
		if err != nil {
			return
		}
		patch, err := jsondoc.ParsePatch(text)
		if err != nil {
			t.Fatalf("from %q to %q: %q: %v", from, to, text, err)
		}
		got, err := patch.Apply(from, 0)
		if err != nil && len(to) < jsondoc.MaxNesting {
			t.Fatalf("from %q to %q: %q: %v", from, to, text, err)
		}
		if err == nil && !surrogates(from, to) && !reflect.DeepEqual(decode(t, got), decode(t, to)) {
			t.Fatalf("from %q to %q: %q gives %q", from, to, text, got)
		}
	})
}
