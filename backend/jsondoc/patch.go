package jsondoc

import (
	"fmt"
)

// A Patch is a well-formed JSON patch (RFC 6902). It is immutable.
type Patch struct{ operations []operation }

type operation struct {
	op         string
	path, from pointer
	value      []byte
}

// ParsePatch parses a JSON patch. The error is an ErrInvalid that names the operation
// if there is an unknown op, a member that is missing, repeated or of the wrong type, a
// malformed pointer, or a move of a value into itself, or if there are more than
// MaxOperations. Unknown members are ignored, as the RFC requires.
func ParsePatch(text []byte) (*Patch, error) {
	if !valid(text) {
		return nil, invalid(-1, "is not JSON")
	}
	elements, ok := Elements(text)
	switch {
	case !ok:
		return nil, invalid(-1, "must be an array of operations")
	case len(elements) > MaxOperations:
		return nil, invalid(-1, fmt.Sprintf("has %d operations, the limit is %d", len(elements), MaxOperations))
	}
	p := &Patch{make([]operation, 0, len(elements))}
	for i, element := range elements {
		o, reason := parseOperation(element)
		if reason != "" {
			return nil, invalid(i, reason)
		}
		p.operations = append(p.operations, o)
	}
	return p, nil
}

// needs maps each op to the member that it requires besides op and path.
var needs = map[string]string{
	"add": "value", "replace": "value", "test": "value", "move": "from", "copy": "from", "remove": "",
}

// parseOperation returns a reason if the operation is invalid.
func parseOperation(text []byte) (o operation, reason string) {
	all, ok := Members(text)
	if !ok {
		return o, "must be an object"
	}
	members := map[string][]byte{}
	for _, m := range all {
		switch m.Name {
		case "op", "path", "from", "value":
			if members[m.Name] != nil {
				return o, m.Name + ": is given twice"
			}
			members[m.Name] = m.Value
		}
	}
	if o.op, ok = Text(members["op"]); !ok {
		return o, "op: is required, as a string"
	}
	need, known := needs[o.op]
	if !known {
		return o, fmt.Sprintf("op: %q must be add, remove, replace, move, copy or test", o.op)
	}
	if o.path, reason = pointerOf(members, "path"); reason != "" {
		return o, reason
	}
	switch need {
	case "from":
		if o.from, reason = pointerOf(members, "from"); reason != "" {
			return o, reason
		}
		if o.op == "move" && o.path.within(o.from) {
			return o, "path: a value cannot be moved into itself"
		}
	case "value":
		if o.value = members["value"]; o.value == nil {
			return o, "value: is required"
		}
	}
	return o, ""
}

func pointerOf(members map[string][]byte, name string) (p pointer, reason string) {
	text, ok := Text(members[name])
	if !ok {
		return p, name + ": is required, as a string"
	}
	p, err := parsePointer(text)
	if err != nil {
		return p, name + ": " + err.Error()
	}
	return p, ""
}
