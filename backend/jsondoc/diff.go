package jsondoc

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
)

// maxPatchBytes bounds how much longer than both texts together a patch may be: every
// pointer repeats the names above it.
const maxPatchBytes = 1 << 20

// Diff returns a JSON patch (RFC 6902) that turns from into to. Apply then returns a
// value with the same members, elements, strings and numbers, digit for digit. The
// order of members, which has no meaning in JSON, may differ. The patch is [] if there
// is no difference. If several members have the same name, the last one counts.
//
// The patch names every member and element that changed. It replaces the whole document
// only if the two are not both objects or both arrays, or if it would need more than
// MaxOperations operations or maxPatchBytes more bytes. It replaces a part as a whole
// below MaxDepth, and where no pointer can name a member.
//
// For arrays, Diff keeps a longest common subsequence. Operations refer to elements by
// their index in from. For each level, time is proportional to the sizes of the texts,
// and aligning elements has a fixed bound (maxSteps). Memory is proportional to the sizes.
func Diff(from, to []byte) ([]byte, error) {
	if !valid(from) || !valid(to) {
		return nil, notJSON()
	}
	a, b, values := newNode(from), newNode(to), interner{}
	values.intern(a, 0)
	values.intern(b, 0)
	d := &difference{patch: []byte{'['}, limit: len(from) + len(to) + maxPatchBytes, steps: maxSteps}
	d.compare(nil, a, b, 0)
	if d.full {
		return append(append([]byte(`[{"op":"replace","path":"","value":`), trim(to)...), "}]"...), nil
	}
	return append(d.patch, ']'), nil
}

// difference collects operations until there are too many.
type difference struct {
	patch      []byte
	operations int
	limit      int  // of patch, in bytes
	steps      int  // left for matching elements
	full       bool // a limit was reached
}

// place is the location of a value. Its pointer is written only for an operation:
// long pointers for many small values would take far more space than the texts.
type place struct {
	above *place // nil for the document
	token string // escaped
	size  int    // of the pointer, in bytes
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

// add adds an operation, with a value unless it is nil.
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

// compare adds the operations that turn a into b. Both have ids.
func (d *difference) compare(at *place, a, b *node, depth int) {
	switch {
	case d.full || a.id == b.id:
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

// differsUnnamed reports whether a member that no pointer can name, because its name
// has half of a surrogate pair, is different in other or missing there.
func (o *object) differsUnnamed(other *object) bool {
	for name, value := range o.all {
		if strings.HasPrefix(name, "\xff") {
			if found := other.get(name); found == nil || value.id != found.id {
				return true
			}
		}
	}
	return false
}

// An interner gives equal values the same id. Objects are equal regardless of the order
// of their members, strings if they decode to the same text, and numbers if they are
// written the same. Values below MaxDepth are equal if they are written the same.
type interner map[string]int32

// intern parses v and sets the id of v and of everything in it.
func (n interner) intern(v *node, depth int) {
	var form []byte // the value, with ids instead of the values in it
	switch {
	case depth > MaxDepth:
		form = append([]byte{0}, v.text...)
	case v.asObject() != nil:
		form = n.members(v.object, depth)
	case v.asArray() != nil:
		form = make([]byte, 1, 1+4*v.array.length)
		form[0] = '['
		for element := range v.array.all {
			n.intern(element, depth+1)
			form = appendID(form, element.id)
		}
	case kind(v.text) == '"':
		form = append([]byte{'"'}, unquote(v.text)...)
	default:
		form = v.text
	}
	v.id = n.id(form)
}

func (n interner) members(o *object, depth int) (form []byte) {
	pairs := make([][2]int32, 0, len(o.members))
	for name, value := range o.all {
		n.intern(value, depth+1)
		pairs = append(pairs, [2]int32{n.id(append([]byte{'"'}, name...)), value.id})
	}
	slices.SortFunc(pairs, func(a, b [2]int32) int { return int(a[0]) - int(b[0]) })
	form = make([]byte, 1, 1+8*len(pairs))
	form[0] = '{'
	for _, pair := range pairs {
		form = appendID(appendID(form, pair[0]), pair[1])
	}
	return form
}

func (n interner) id(form []byte) int32 {
	id, known := n[string(form)]
	if !known {
		id = int32(len(n))
		n[string(form)] = id
	}
	return id
}

func appendID(b []byte, id int32) []byte {
	return binary.LittleEndian.AppendUint32(b, uint32(id))
}
