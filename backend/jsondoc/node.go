package jsondoc

import "bytes"

// A node is a value of a document. It is parsed only when it is needed as an object or
// array.
type node struct {
	text   []byte // as read; nil once something in it was changed
	object *object
	array  *array
	id     int32 // from an interner
}

// object holds its members in order.
type object struct {
	members []member
	index   map[string]int // into members
}

type member struct {
	name  string
	text  []byte // the name as written
	value *node  // nil if it was removed
}

func newNode(text []byte) *node { return &node{text: trim(text)} }

// asObject returns the object that n is, or nil.
func (n *node) asObject() *object {
	if n.object == nil && n.text != nil && kind(n.text) == '{' {
		n.object = parseObject(n.text)
	}
	return n.object
}

// parseObject keeps the last of several members with the same name.
func parseObject(text []byte) *object {
	o := &object{index: map[string]int{}}
	walk(text, func(name, value []byte) { o.set(unquote(name), name, &node{text: value}) })
	return o
}

// asArray returns the array that n is, or nil.
func (n *node) asArray() *array {
	if n.array == nil && n.text != nil && kind(n.text) == '[' {
		var nodes []node // in one allocation, because there may be very many
		walk(n.text, func(_, value []byte) { nodes = append(nodes, node{text: value}) })
		elements := make([]*node, len(nodes))
		for i := range nodes {
			elements[i] = &nodes[i]
		}
		n.array = newArray(elements)
	}
	return n.array
}

func (o *object) get(name string) *node {
	if i, ok := o.index[name]; ok {
		return o.members[i].value
	}
	return nil
}

// all yields the members in order.
func (o *object) all(yield func(name string, value *node) bool) {
	for _, m := range o.members {
		if m.value != nil && !yield(m.name, m.value) {
			return
		}
	}
}

// set sets the value of a member. The name of a new member is written as text.
func (o *object) set(name string, text []byte, value *node) {
	if i, ok := o.index[name]; ok {
		o.members[i].value = value
		return
	}
	o.index[name] = len(o.members)
	o.members = append(o.members, member{name, text, value})
}

func (o *object) remove(name string) {
	if i, ok := o.index[name]; ok {
		o.members[i].value = nil
		delete(o.index, name)
	}
}

func (n *node) appendTo(b []byte) []byte {
	switch {
	case n.text != nil:
		return append(b, n.text...)
	case n.object != nil:
		b = append(b, '{')
		for _, m := range n.object.members {
			if m.value != nil {
				b = append(append(b, m.text...), ':')
				b = append(m.value.appendTo(b), ',')
			}
		}
		return append(bytes.TrimSuffix(b, []byte{','}), '}')
	default:
		b = append(b, '[')
		for element := range n.array.all {
			b = append(element.appendTo(b), ',')
		}
		return append(bytes.TrimSuffix(b, []byte{','}), ']')
	}
}
