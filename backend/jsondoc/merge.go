package jsondoc

import (
	"fmt"
)

// CheckMerge returns an ErrInvalid unless Merge can use the patch: it must be JSON, its
// merged objects must not have two members with the same name, and they must be nested
// at most MaxDepth deep.
func CheckMerge(patch []byte) error {
	if !valid(patch) {
		return invalid(-1, "is not JSON")
	}
	return checkMerge(patch, 0)
}

func checkMerge(patch []byte, depth int) error {
	members, ok := Members(patch)
	if !ok {
		return nil
	}
	if depth == MaxDepth {
		return invalid(-1, fmt.Sprintf("has objects nested more than %d deep, which is the limit", MaxDepth))
	}
	seen := make(map[string]bool, len(members))
	for _, m := range members {
		if seen[m.Name] {
			return invalid(-1, fmt.Sprintf("the member %s is given twice", m.Text))
		}
		seen[m.Name] = true
		if err := checkMerge(m.Value, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// Merge applies a merge patch (RFC 7396) that CheckMerge has accepted, and returns the
// result. It modifies neither argument. The error is an ErrConflict if the document is
// not JSON or the result is nested too deeply.
func Merge(document, patch []byte) ([]byte, error) {
	if !valid(document) {
		return nil, notJSON()
	}
	return finish(merge(newNode(document), newNode(patch)))
}

// merge returns the new value of target, which is nil if it does not exist.
func merge(target, patch *node) *node {
	changes := patch.asObject()
	if changes == nil {
		return patch
	}
	if target == nil || target.asObject() == nil {
		target = &node{object: &object{index: map[string]int{}}}
	}
	object := target.asObject()
	for _, m := range changes.members {
		target.text = nil
		if string(m.value.text) == "null" {
			object.remove(m.name)
		} else {
			object.set(m.name, m.text, merge(object.get(m.name), m.value))
		}
	}
	return target
}

func notJSON() error {
	return &Error{Kind: ErrConflict, Operation: -1, Reason: "the document is not JSON"}
}

// finish returns the text of a result.
func finish(root *node) ([]byte, error) {
	text := root.appendTo(nil)
	if deep := nesting(text); deep > MaxNesting {
		return nil, &Error{
			Kind: ErrConflict, Operation: -1,
			Reason: fmt.Sprintf("the result is nested %d deep, the limit is %d", deep, MaxNesting),
		}
	}
	return text, nil
}
