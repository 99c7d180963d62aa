package jsondoc

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// The functions in this file read one level of a text that valid has accepted.

// valid reports whether text is JSON in UTF-8, which json.Valid does not check.
func valid(text []byte) bool { return json.Valid(text) && utf8.Valid(text) }

// A Member is one member of an object.
type Member struct {
	// Name is the decoded name. If it has half of a surrogate pair, and so is not
	// Unicode, Name is a byte 0xFF followed by the JSON text.
	Name string
	// Text is the name as written, with quotes.
	Text []byte
	// Value is the text of the value, without surrounding space.
	Value []byte
}

// Members returns the members of an object in order, including repeated names. It
// returns false if text is not an object. The text must be valid JSON.
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

// Elements returns the elements of an array. It returns false if text is not an array.
// The text must be valid JSON.
func Elements(text []byte) ([][]byte, bool) {
	if kind(text) != '[' {
		return nil, false
	}
	var all [][]byte
	walk(text, func(_, value []byte) { all = append(all, value) })
	return all, true
}

// Text decodes a string. It returns false if text is nil, not a string, or has half of a
// surrogate pair. Otherwise the text must be valid JSON.
func Text(text []byte) (string, bool) {
	if text == nil || kind(text) != '"' {
		return "", false
	}
	s := unquote(trim(text))
	return s, utf8.ValidString(s)
}

// kind returns the first character of a value: one of { [ " t f n - or a digit.
func kind(text []byte) byte { return text[space(text, 0)] }

func space(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t') {
		i++
	}
	return i
}

func trim(text []byte) []byte { return bytes.Trim(text, " \n\r\t") }

// walk calls visit for each member of an object or element of an array, which has no
// name.
func walk(text []byte, visit func(name, value []byte)) {
	i := space(text, 0)
	object := text[i] == '{'
	for i = space(text, i+1); text[i] != '}' && text[i] != ']'; {
		var name []byte
		if object {
			start := i
			i = skip(text, i)
			name = text[start:i:i]
			i = space(text, space(text, i)+1) // skip the colon
		}
		start := i
		i = skip(text, i)
		visit(name, text[start:i:i])
		if i = space(text, i); text[i] == ',' {
			i = space(text, i+1)
		}
	}
}

// skip returns the end of the value that begins at i.
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

// unquote decodes a string. A string with half of a surrogate pair, which encoding/json
// would decode to a replacement character, becomes a byte 0xFF and its JSON text, so that
// it stays distinct.
func unquote(text []byte) string {
	if bytes.IndexByte(text, '\\') < 0 {
		return string(text[1 : len(text)-1])
	}
	var s string
	err := json.Unmarshal(text, &s)
	surrogates := bytes.Contains(text, []byte(`\ud`)) || bytes.Contains(text, []byte(`\uD`))
	if err != nil || surrogates && strings.ContainsRune(s, utf8.RuneError) {
		return "\xff" + string(text)
	}
	return s
}

// quote encodes a string, without escaping <, > and &.
func quote(s string) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s) // never fails for a string
	return bytes.TrimRight(b.Bytes(), "\n")
}

// nesting returns the depth of the deepest array or object.
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
