package jsondoc

import (
	"strconv"
	"strings"
)

// maxPatchBytes is how much longer than both texts together a patch may be: a pointer
// repeats the names above it.
const maxPatchBytes = 1 << 20

// Diff returns a JSON patch (RFC 6902) that makes to of from: applied by Apply it gives
// a value with the same members, elements, strings and numbers, these digit for digit.
// The order of members, which JSON gives no meaning to, it does not tell. It is [] when
// there is no difference. Of several members with one name the last counts.
//
// The patch names each member and element that changed, whatever its length. It replaces
// the whole document only where the two are not both objects or both arrays, where more
// than MaxOperations operations or maxPatchBytes are needed; and a part of it where
// MaxDepth ends, or a pointer cannot name the member.
//
// What stays of an array is a longest common subsequence; an operation names an element by
// the index that it has in from. The work is in proportion to the sizes of the texts for
// each level, up to MaxDepth, and has a fixed bound beyond that (maxSteps). Memory is in
// proportion to the sizes.
func Diff(from, to []byte) ([]byte, error) {
	if !valid(from) || !valid(to) {
		return nil, notJSON()
	}
	a, b, numbers := newNode(from), newNode(to), numbering{}
	numbers.number(a, 0)
	numbers.number(b, 0)
	d := &difference{patch: []byte{'['}, limit: len(from) + len(to) + maxPatchBytes, steps: maxSteps}
	d.compare(nil, a, b, 0)
	if d.full {
		return append(append([]byte(`[{"op":"replace","path":"","value":`), trim(to)...), "}]"...), nil
	}
	return append(d.patch, ']'), nil
}

// difference collects the operations until there are too many.
type difference struct {
	patch      []byte
	operations int
	limit      int // bytes
	steps      int // that may still be taken to match elements
	full       bool
}

// place is where a value stands. It is made a pointer only for an operation: to write
// a long one for each of many small values would take far more than the texts.
type place struct {
	above *place // nil for the document
	token string // escaped
	size  int    // of the pointer
}

func (p *place) at(token string) *place {
	token = strings.ReplaceAll(strings.ReplaceAll(token, "~", "~0"), "/", "~1")
	below := &place{p, token, len(token) + 1}
	if p != nil {
		below.size += p.size
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
	d.full = d.full || d.operations == MaxOperations || at != nil && len(d.patch)+at.size > d.limit
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

// compare tells how a became b; both have numbers.
func (d *difference) compare(at *place, a, b *node, depth int) {
	switch {
	case d.full || a.number == b.number:
	case depth < MaxDepth && a.object != nil && b.object != nil:
		d.objects(at, a, b, depth+1)
	case depth < MaxDepth && a.array != nil && b.array != nil:
		d.arrays(at, a.array.elements(), b.array.elements(), depth+1)
	default:
		d.add("replace", at, b)
	}
}

func (d *difference) objects(at *place, from, to *node, depth int) {
	a, b := from.object, to.object
	if a.differsUnnamed(b) || b.differsUnnamed(a) {
		d.add("replace", at, to)
		return
	}
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

// differsUnnamed reports whether a member that no pointer can name, since its name has
// half of a surrogate pair, is another in other, or not there.
func (o *object) differsUnnamed(other *object) bool {
	for name, value := range o.all {
		if strings.HasPrefix(name, "\xff") {
			if there := other.get(name); there == nil || value.number != there.number {
				return true
			}
		}
	}
	return false
}
