package jsondoc

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"strings"
)

var errTooDeep = errors.New("the values are nested too deeply to compare")

// sameNumber compares numbers by value, as RFC 6902 says for test: 1, 1.0 and 10e-1 are
// equal.
func sameNumber(a, b []byte) bool {
	x, okX := parseDecimal(a)
	y, okY := parseDecimal(b)
	return okX && okY && x == y || bytes.Equal(a, b)
}

// equal compares two values: objects regardless of the order of their members, strings
// by the text they decode to, and numbers by value.
func equal(a, b *node, depth int) (bool, error) {
	switch {
	case a.text != nil && bytes.Equal(a.text, b.text):
		return true, nil
	case depth > MaxDepth:
		return false, errTooDeep
	case a.asObject() != nil:
		return equalObjects(a.object, b.asObject(), depth)
	case a.asArray() != nil:
		return equalArrays(a.array, b.asArray(), depth)
	case b.text == nil || b.asObject() != nil || b.asArray() != nil:
		return false, nil
	case kind(a.text) == '"' && kind(b.text) == '"':
		return unquote(a.text) == unquote(b.text), nil
	case strings.IndexByte("-0123456789", kind(a.text)) >= 0 && strings.IndexByte("-0123456789", kind(b.text)) >= 0:
		return sameNumber(a.text, b.text), nil
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

// decimal is 0.digits times ten to the power of exponent. The digits have no zeros at
// either end, and the number zero has none.
type decimal struct {
	negative bool
	digits   string
	exponent int64
}

// parseDecimal returns false if the exponent does not fit into 62 bits. It never expands
// the number, which may be 1e1000000000.
func parseDecimal(text []byte) (decimal, bool) {
	s, negative := strings.CutPrefix(string(text), "-")
	mantissa, power := s, ""
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, power = s[:i], s[i+1:]
	}
	var exponent int64
	if power != "" {
		var err error
		exponent, err = strconv.ParseInt(power, 10, 64)
		if err != nil || exponent > math.MaxInt64/2 || exponent < math.MinInt64/2 {
			return decimal{}, false
		}
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	exponent += int64(len(whole))
	digits := strings.TrimLeft(whole+fraction, "0")
	exponent -= int64(len(whole) + len(fraction) - len(digits))
	digits = strings.TrimRight(digits, "0")
	if digits == "" {
		return decimal{}, true // 0 and -0
	}
	return decimal{negative, digits, exponent}, true
}
