package jsondoc

import (
	"errors"
	"fmt"
)

// Apply applies the operations in order and returns the result. It does not modify
// document. If an operation does not apply, the error is an ErrConflict with the
// operation and the pointer. It is also an ErrConflict if the document is not JSON or
// the result is nested too deeply, and an ErrTooLarge if copies add more than limit
// bytes. The caller checks the size of the result.
func (p *Patch) Apply(document []byte, limit int64) ([]byte, error) {
	if !valid(document) {
		return nil, notJSON()
	}
	a := &applier{root: newNode(document), room: limit}
	for i, o := range p.operations {
		at, err := a.apply(o)
		var known *Error
		switch {
		case errors.As(err, &known):
			known.Operation = i
			return nil, known
		case err != nil:
			return nil, &Error{
				Kind: ErrConflict, Operation: i, Pointer: at.text, HasPointer: true, Reason: o.op + ": " + err.Error(),
			}
		}
	}
	return finish(a.root)
}

// An applier holds a document while a patch is applied to it.
type applier struct {
	root *node
	room int64 // bytes that copies may still add
}

var (
	errTestFailed = errors.New("the value is different")
	errRoot       = errors.New("the whole document cannot be removed")
)

// apply applies one operation. With an error, it returns the pointer that failed.
func (a *applier) apply(o operation) (at pointer, err error) {
	switch o.op {
	case "add":
		return o.path, a.add(o.path, newNode(o.value))
	case "remove":
		_, err := a.remove(o.path)
		return o.path, err
	case "replace":
		return o.path, a.replace(o.path, newNode(o.value))
	case "move":
		if _, err := a.root.find(o.from.tokens, false); err != nil || o.from.text == o.path.text {
			return o.from, err
		}
		value, err := a.remove(o.from)
		if err != nil {
			return o.from, err
		}
		return o.path, a.add(o.path, value)
	case "copy":
		value, err := a.root.find(o.from.tokens, false)
		if err != nil {
			return o.from, err
		}
		text := value.text
		if text == nil {
			text = value.appendTo(nil)
		}
		size := int64(len(text))
		if a.room -= size; a.room < 0 {
			return o.path, &Error{Kind: ErrTooLarge, Reason: "all copies together are larger than the limit"}
		}
		return o.path, a.add(o.path, newNode(text))
	default:
		value, err := a.root.find(o.path.tokens, false)
		if err != nil {
			return o.path, err
		}
		if same, err := equal(value, newNode(o.value), 0); err != nil || same {
			return o.path, err
		}
		return o.path, errTestFailed
	}
}

// parent returns the container of the value at p, ready to be changed, and the last
// token.
func (a *applier) parent(p pointer) (container *node, token string, err error) {
	last := len(p.tokens) - 1
	container, err = a.root.find(p.tokens[:last], true)
	return container, p.tokens[last], err
}

func (a *applier) add(p pointer, value *node) error {
	if p.root() {
		a.root = value
		return nil
	}
	container, token, err := a.parent(p)
	if err != nil {
		return err
	}
	if object := container.asObject(); object != nil {
		object.set(token, quote(token), value)
		return nil
	}
	array := container.asArray()
	if array == nil {
		return fmt.Errorf("%w: the parent is neither an object nor an array", errNotFound)
	}
	i := array.length
	if token != "-" {
		if i, err = position(token, i); err != nil {
			return err
		}
	}
	array.insert(i, value)
	return nil
}

// remove removes the value at p and returns it.
func (a *applier) remove(p pointer) (*node, error) {
	if p.root() {
		return nil, errRoot
	}
	container, token, err := a.parent(p)
	if err != nil {
		return nil, err
	}
	value, err := container.child(token)
	if err != nil {
		return nil, err
	}
	if object := container.asObject(); object != nil {
		object.remove(token)
		return value, nil
	}
	array := container.asArray()
	i, err := position(token, array.length-1)
	if err != nil {
		return nil, err
	}
	array.remove(i)
	return value, nil
}

func (a *applier) replace(p pointer, value *node) error {
	if p.root() {
		a.root = value
		return nil
	}
	container, token, err := a.parent(p)
	if err != nil {
		return err
	}
	if _, err := container.child(token); err != nil {
		return err
	}
	if object := container.asObject(); object != nil {
		object.set(token, nil, value) // keeps the name as written
		return nil
	}
	array := container.asArray()
	i, err := position(token, array.length-1)
	if err != nil {
		return err
	}
	array.set(i, value)
	return nil
}
