package jsondoc

import (
	"fmt"
)

// A Patch is a JSON patch (RFC 6902) that is well formed. It does not change when it
// is applied, and may be applied by many goroutines.
type Patch struct{ operations []operation }

type operation struct {
	op         string
	path, from pointer
	value      []byte
}

// ParsePatch reads a JSON patch, or returns an ErrInvalid that names the operation:
// an unknown op, a member that is missing, there twice or of the wrong type, a
// malformed pointer, a move of a value into itself, or more than MaxOperations. Other
// members are ignored, as the RFC demands.
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

// needs are the members that each operation must have beside op and path.
var needs = map[string]string{"add": "value", "replace": "value", "test": "value", "move": "from", "copy": "from", "remove": ""}

// parseOperation returns what is wrong as a reason.
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
	if o.op, ok = textOf(members["op"]); !ok {
		return o, "op: must be there, as a string"
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
			return o, "value: must be there"
		}
	}
	return o, ""
}

func textOf(text []byte) (string, bool) {
	if text == nil {
		return "", false
	}
	return Text(text)
}

func pointerOf(members map[string][]byte, name string) (p pointer, reason string) {
	text, ok := textOf(members[name])
	if !ok {
		return p, name + ": must be there, as a string"
	}
	p, err := parsePointer(text)
	if err != nil {
		return p, name + ": " + err.Error()
	}
	return p, ""
}
