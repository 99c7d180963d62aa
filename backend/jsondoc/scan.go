package jsondoc

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// The functions in this file read texts that valid has accepted, and look at one level
// of them.

// valid reports whether text is JSON in UTF-8. json.Valid alone takes strings of any
// bytes.
func valid(text []byte) bool { return json.Valid(text) && utf8.Valid(text) }

// A Member is one member of an object.
type Member struct {
	// Name is the decoded name. A name with half of a surrogate pair, which is no
	// Unicode text, is its JSON text behind a byte 0xFF.
	Name string
	// Text is the name as it was written, with its quotes.
	Text []byte
	// Value is the text of the value, without space around it.
	Value []byte
}

// Members returns the members of an object in their order, those of one name too,
// and false when the text is no object. The text must be valid JSON.
func Members(text []byte) ([]Member, bool) {
	if kind(text) != '{' {
		return nil, false
	}
	var all []Member
	walk(text, func(name, value []byte) {
		all = append(all, Member{unquote(name), name, value})
	})
	return all, true
}

// Elements returns the elements of an array, and false when the text is none. The
// text must be valid JSON.
func Elements(text []byte) ([][]byte, bool) {
	if kind(text) != '[' {
		return nil, false
	}
	var all [][]byte
	walk(text, func(_, value []byte) { all = append(all, value) })
	return all, true
}

// Text returns a string, and false when the text is none, or has half of a surrogate
// pair. The text must be valid JSON.
func Text(text []byte) (string, bool) {
	if kind(text) != '"' {
		return "", false
	}
	s := unquote(trim(text))
	return s, utf8.ValidString(s)
}

// kind is the first character of a text: one of { [ " t f n, or of a number.
func kind(text []byte) byte { return text[space(text, 0)] }

func space(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t') {
		i++
	}
	return i
}

func trim(text []byte) []byte { return bytes.Trim(text, " \n\r\t") }

// walk calls visit with each member or element of an object or array; an element has
// no name.
func walk(text []byte, visit func(name, value []byte)) {
	i := space(text, 0)
	object := text[i] == '{'
	for i = space(text, i+1); text[i] != '}' && text[i] != ']'; {
		var name []byte
		if object {
			start := i
			i = skip(text, i)
			name = text[start:i:i]
			i = space(text, space(text, i)+1) // over the colon
		}
		start := i
		i = skip(text, i)
		visit(name, text[start:i:i])
		if i = space(text, i); text[i] == ',' {
			i = space(text, i+1)
		}
	}
}

// skip returns where the value ends that begins at i.
func skip(text []byte, i int) int {
	switch text[i] {
	case '"':
		return skipString(text, i)
	case '{', '[':
		for depth := 0; ; i++ {
			switch text[i] {
			case '"':
				i = skipString(text, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	default:
		for i < len(text) && !strings.ContainsRune(",]} \n\r\t", rune(text[i])) {
			i++
		}
		return i
	}
}

func skipString(text []byte, i int) int {
	for i++; text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// unquote decodes a string. One that has half of a surrogate pair, for which
// encoding/json would give a replacement character, stays distinct from all others.
func unquote(text []byte) string {
	if bytes.IndexByte(text, '\\') < 0 {
		return string(text[1 : len(text)-1])
	}
	var s string
	err := json.Unmarshal(text, &s)
	if err != nil || strings.ContainsRune(s, utf8.RuneError) && (bytes.Contains(text, []byte(`\ud`)) || bytes.Contains(text, []byte(`\uD`))) {
		return "\xff" + string(text)
	}
	return s
}

// quote encodes a string, without escaping <, > and &.
func quote(s string) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s) // of a string it does not fail
	return bytes.TrimRight(b.Bytes(), "\n")
}

// nesting is how many arrays and objects stand in one another.
func nesting(text []byte) (deepest int) {
	for i, depth := 0, 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			i = skipString(text, i) - 1
		case '{', '[':
			depth++
			deepest = max(deepest, depth)
		case '}', ']':
			depth--
		}
	}
	return deepest
}
