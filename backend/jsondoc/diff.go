package jsondoc

import (
	"bytes"
	"strconv"
	"strings"
)

// Diff returns a JSON patch (RFC 6902) that makes to of from: applied by Apply it gives
// a value with the same members, elements, strings and numbers, these digit for digit.
// The order of members, which JSON gives no meaning to, it does not tell. The patch is
// at most as long as the one that replaces the document, and has at most
// MaxOperations operations. It is [] when there is no difference. Of several members
// with one name the last counts.
//
// The work is in proportion to the sizes of the texts for each level, up to MaxDepth:
// of two arrays the elements that are alike at both ends are left out, and the rest is
// compared one by one. So an insertion or a removal in one place is found; a shortest
// patch, which would take time in the square of the size, is not looked for.
func Diff(from, to []byte) ([]byte, error) {
	if !valid(from) || !valid(to) {
		return nil, notJSON()
	}
	whole := append(append([]byte(`[{"op":"replace","path":"","value":`), trim(to)...), "}]"...)
	d := &difference{patch: []byte{'['}, limit: len(whole) - 1}
	d.compare(nil, newNode(from), newNode(to), 0)
	if d.full {
		return whole, nil
	}
	return append(d.patch, ']'), nil
}

// difference collects the operations until they are more than it is worth.
type difference struct {
	patch      []byte
	operations int
	limit      int // bytes
	full       bool
}

// place is where a value stands. It is made a pointer only for an operation: to write
// a long one for each of many small values would take far more than the texts.
type place struct {
	above *place // nil for the document
	token string // escaped
	size  int    // of the pointer
	none  bool   // a pointer cannot have a name with half of a surrogate pair
}

func (p *place) at(token string) *place {
	token = strings.ReplaceAll(strings.ReplaceAll(token, "~", "~0"), "/", "~1")
	below := &place{p, token, len(token) + 1, strings.HasPrefix(token, "\xff")}
	if p != nil {
		below.size += p.size
		below.none = below.none || p.none
	}
	return below
}

func (p *place) item(i int) *place { return p.at(strconv.Itoa(i)) }

func (p *place) appendTo(b []byte) []byte {
	if p == nil {
		return b
	}
	return append(append(p.above.appendTo(b), '/'), p.token...)
}

// add adds one operation, with the text of a value when there is one.
func (d *difference) add(op string, at *place, value *node) {
	d.full = d.full || d.operations == MaxOperations || at != nil && (at.none || len(d.patch)+at.size > d.limit)
	if d.full {
		return
	}
	if d.operations++; d.operations > 1 {
		d.patch = append(d.patch, ',')
	}
	d.patch = append(append(d.patch, `{"op":"`...), op...)
	d.patch = append(append(d.patch, `","path":`...), quote(string(at.appendTo(nil)))...)
	if value != nil {
		d.patch = value.appendTo(append(d.patch, `,"value":`...))
	}
	d.patch = append(d.patch, '}')
	d.full = len(d.patch) > d.limit
}

func (d *difference) compare(at *place, a, b *node, depth int) {
	switch {
	case d.full || bytes.Equal(a.text, b.text):
	case depth == MaxDepth:
		d.full = true
	case a.asObject() != nil && b.asObject() != nil:
		d.objects(at, a.object, b.object, depth+1)
	case a.asArray() != nil && b.asArray() != nil:
		d.arrays(at, a.array.elements, b.array.elements, depth+1)
	default:
		if same, err := equal(a, b, 0, bytes.Equal); err != nil || !same {
			d.add("replace", at, b)
		}
	}
}

func (d *difference) objects(at *place, a, b *object, depth int) {
	for name, value := range a.all {
		if other := b.get(name); other == nil {
			d.add("remove", at.at(name), nil)
		} else if !d.full {
			d.compare(at.at(name), value, other, depth)
		}
	}
	for name, value := range b.all {
		if a.get(name) == nil {
			d.add("add", at.at(name), value)
		}
	}
}

func (d *difference) arrays(at *place, a, b []*node, depth int) {
	start := 0
	for start < min(len(a), len(b)) && alike(a[start], b[start]) {
		start++
	}
	endA, endB := len(a), len(b)
	for endA > start && endB > start && alike(a[endA-1], b[endB-1]) {
		endA--
		endB--
	}
	both := min(endA, endB)
	for i := start; i < both && !d.full; i++ {
		d.compare(at.item(i), a[i], b[i], depth)
	}
	for i := endA - 1; i >= both && !d.full; i-- { // from the end, so that the indices stay
		d.add("remove", at.item(i), nil)
	}
	for i := both; i < endB && !d.full; i++ {
		d.add("add", at.item(i), b[i])
	}
}

// alike reports whether two elements are equal. Those too deep to tell are not.
func alike(a, b *node) bool {
	same, err := equal(a, b, 0, bytes.Equal)
	return err == nil && same
}
