package jsondoc

// A node is one value of a document that is being changed. It is a text until
// somebody looks into it.
type node struct {
	text   []byte // as it was read; nil once something in it was changed
	object *object
	array  *array
	number int32 // that of a numbering, if it has one
}

// object has its members in their order.
type object struct {
	members []member
	index   map[string]int // into members
}

// member of an object; one that was removed has no value.
type member struct {
	name  string
	text  []byte // the name as it is written
	value *node
}

func newNode(text []byte) *node { return &node{text: trim(text)} }

// asObject opens an object, and returns nil for what is none.
func (n *node) asObject() *object {
	if n.object == nil && n.text != nil && kind(n.text) == '{' {
		n.object = openObject(n.text)
	}
	return n.object
}

// openObject keeps the last of several members with one name.
func openObject(text []byte) *object {
	o := &object{index: map[string]int{}}
	walk(text, func(name, value []byte) { o.set(unquote(name), name, &node{text: value}) })
	return o
}

// asArray opens an array, and returns nil for what is none.
func (n *node) asArray() *array {
	if n.array == nil && n.text != nil && kind(n.text) == '[' {
		var nodes []node // together, since there may be very many
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

// all yields the members in their order.
func (o *object) all(yield func(name string, value *node) bool) {
	for _, m := range o.members {
		if m.value != nil && !yield(m.name, m.value) {
			return
		}
	}
}

// set changes the value of a member, or adds one whose name is written as text.
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

// appendTo appends the text of the node.
func (n *node) appendTo(b []byte) []byte {
	switch {
	case n.text != nil:
		return append(b, n.text...)
	case n.object != nil:
		b = append(b, '{')
		first := true
		for _, m := range n.object.members {
			if m.value == nil {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(append(b, m.text...), ':')
			b = m.value.appendTo(b)
		}
		return append(b, '}')
	default:
		b = append(b, '[')
		first := true
		for element := range n.array.all {
			if !first {
				b = append(b, ',')
			}
			first = false
			b = element.appendTo(b)
		}
		return append(b, ']')
	}
}
