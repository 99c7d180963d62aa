package jsondoc

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// pointer is a JSON pointer (RFC 6901).
type pointer struct {
	text   string
	tokens []string
}

func parsePointer(text string) (pointer, error) {
	if text == "" {
		return pointer{}, nil
	}
	if text[0] != '/' {
		return pointer{}, fmt.Errorf("the pointer %q must be empty or begin with /", text)
	}
	if strings.Count(text, "/") > MaxDepth {
		return pointer{}, fmt.Errorf("the pointer has more than %d tokens, which is the limit", MaxDepth)
	}
	tokens := strings.Split(text[1:], "/")
	for i, token := range tokens {
		for rest := token; ; {
			_, after, found := strings.Cut(rest, "~")
			if !found {
				break
			}
			if after == "" || after[0] != '0' && after[0] != '1' {
				return pointer{}, fmt.Errorf("the pointer %q has a ~ that is not followed by 0 or 1", text)
			}
			rest = after
		}
		tokens[i] = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
	}
	return pointer{text, tokens}, nil
}

func (p pointer) root() bool { return len(p.tokens) == 0 }

// within reports whether p points to something inside the value at outer.
func (p pointer) within(outer pointer) bool {
	return len(p.tokens) > len(outer.tokens) && strings.HasPrefix(p.text, outer.text+"/")
}

var errNotFound = errors.New("there is nothing at the pointer")

// child returns the member or element that token names.
func (n *node) child(token string) (*node, error) {
	if object := n.asObject(); object != nil {
		if value := object.get(token); value != nil {
			return value, nil
		}
		return nil, fmt.Errorf("%w: the object has no member %s", errNotFound, quote(token))
	}
	array := n.asArray()
	if array == nil {
		return nil, fmt.Errorf("%w: the parent of %s is neither an object nor an array", errNotFound, quote(token))
	}
	i, err := position(token, array.length-1)
	if err != nil {
		return nil, err
	}
	return array.at(i), nil
}

// position parses an array index, which must not be greater than last.
func position(token string, last int) (int, error) {
	i, err := strconv.Atoi(token)
	switch {
	case token == "-":
		return 0, fmt.Errorf("%w: - is after the last element of the array", errNotFound)
	case err != nil && !errors.Is(err, strconv.ErrRange) || strings.HasPrefix(token, "+") || strings.HasPrefix(token, "-"),
		len(token) > 1 && token[0] == '0':
		return 0, fmt.Errorf("%w: %s is not an array index", errNotFound, quote(token))
	case err != nil || i > last:
		return 0, fmt.Errorf("%w: the index %s is beyond the end of the array", errNotFound, token)
	default:
		return i, nil
	}
}

// find returns the value at tokens. With change, everything on the path loses its text,
// because something in it will change.
func (n *node) find(tokens []string, change bool) (*node, error) {
	for _, token := range tokens {
		next, err := n.child(token)
		if err != nil {
			return nil, err
		}
		if change {
			n.text = nil
		}
		n = next
	}
	if change && (n.asObject() != nil || n.asArray() != nil) {
		n.text = nil
	}
	return n, nil
}
