package jsondoc

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"strings"
)

// errDeep: what is to be compared is nested too deeply.
var errDeep = errors.New("the values are nested too deeply to be compared")

// sameValue: numbers are equal when their values are, as RFC 6902 says for test:
// 1, 1.0 and 10e-1.
func sameValue(a, b []byte) bool {
	x, okX := parseNumber(a)
	y, okY := parseNumber(b)
	return okX && okY && x == y || bytes.Equal(a, b)
}

// equal compares two values: objects whatever the order of their members, strings
// decoded, numbers by their values.
func equal(a, b *node, depth int) (bool, error) {
	switch {
	case a.text != nil && bytes.Equal(a.text, b.text):
		return true, nil
	case depth > MaxDepth:
		return false, errDeep
	case a.asObject() != nil:
		return equalObjects(a.object, b.asObject(), depth)
	case a.asArray() != nil:
		return equalArrays(a.array, b.asArray(), depth)
	case b.text == nil || b.asObject() != nil || b.asArray() != nil:
		return false, nil
	case kind(a.text) == '"' && kind(b.text) == '"':
		return unquote(a.text) == unquote(b.text), nil
	case strings.IndexByte("-0123456789", kind(a.text)) >= 0 && strings.IndexByte("-0123456789", kind(b.text)) >= 0:
		return sameValue(a.text, b.text), nil
	default:
		return false, nil
	}
}

func equalObjects(a, b *object, depth int) (bool, error) {
	if b == nil || len(a.index) != len(b.index) {
		return false, nil
	}
	for name, i := range a.index {
		other := b.get(name)
		if other == nil {
			return false, nil
		}
		if same, err := equal(a.members[i].value, other, depth+1); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

func equalArrays(a, b *array, depth int) (bool, error) {
	if b == nil || a.length != b.length {
		return false, nil
	}
	others := b.elements()
	for i, element := range a.elements() {
		if same, err := equal(element, others[i], depth+1); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

// number is 0.digits times ten to the power of exponent, without zeros at either end
// of digits; zero has no digits.
type number struct {
	negative bool
	digits   string
	exponent int64
}

// parseNumber returns false for an exponent beyond 64 bits. It never expands the
// number, which may be 1e1000000000.
func parseNumber(text []byte) (number, bool) {
	s, negative := strings.CutPrefix(string(text), "-")
	mantissa, power := s, ""
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, power = s[:i], s[i+1:]
	}
	var exponent int64
	if power != "" {
		var err error
		if exponent, err = strconv.ParseInt(power, 10, 64); err != nil || exponent > math.MaxInt64/2 || exponent < math.MinInt64/2 {
			return number{}, false
		}
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	exponent += int64(len(whole))
	digits := strings.TrimLeft(whole+fraction, "0")
	exponent -= int64(len(whole) + len(fraction) - len(digits))
	digits = strings.TrimRight(digits, "0")
	if digits == "" {
		return number{}, true // 0 and -0
	}
	return number{negative, digits, exponent}, true
}
