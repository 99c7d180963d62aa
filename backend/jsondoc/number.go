package jsondoc

import (
	"encoding/binary"
	"slices"
)

// A numbering gives values numbers, the same to those that are equal: objects whatever
// the order of their members, strings decoded, numbers when they are written alike. What
// is nested deeper than MaxDepth is equal when it is written alike.
type numbering map[string]int32

// number gives numbers to a value and to all in it, which it opens.
func (n numbering) number(v *node, depth int) {
	var form []byte // of the value, with numbers in the place of those in it
	switch {
	case depth > MaxDepth:
		form = append([]byte{0}, v.text...)
	case v.asObject() != nil:
		form = n.members(v.object, depth)
	case v.asArray() != nil:
		form = make([]byte, 1, 1+4*v.array.length)
		form[0] = '['
		for element := range v.array.all {
			n.number(element, depth+1)
			form = appendNumber(form, element.number)
		}
	case kind(v.text) == '"':
		form = append([]byte{'"'}, unquote(v.text)...)
	default:
		form = v.text
	}
	v.number = n.of(form)
}

func (n numbering) members(o *object, depth int) (form []byte) {
	pairs := make([][2]int32, 0, len(o.members))
	for name, value := range o.all {
		n.number(value, depth+1)
		pairs = append(pairs, [2]int32{n.of(append([]byte{'"'}, name...)), value.number})
	}
	slices.SortFunc(pairs, func(a, b [2]int32) int { return int(a[0]) - int(b[0]) })
	form = make([]byte, 1, 1+8*len(pairs))
	form[0] = '{'
	for _, pair := range pairs {
		form = appendNumber(appendNumber(form, pair[0]), pair[1])
	}
	return form
}

func (n numbering) of(form []byte) int32 {
	number, known := n[string(form)]
	if !known {
		number = int32(len(n))
		n[string(form)] = number
	}
	return number
}

func appendNumber(b []byte, number int32) []byte {
	return binary.LittleEndian.AppendUint32(b, uint32(number))
}
