// Package jsondoc patches and compares JSON texts without reformatting them. It
// implements merge patches (RFC 7396), JSON patches (RFC 6902), and the difference of
// two texts as a JSON patch.
//
// The parts that a patch does not touch keep their text: every digit of a number, the
// escapes of a string, the order of members. An object or array that contains a change
// loses the space between its members. If it has several members with the same name,
// the last one wins, as in encoding/json. New members go to the end, in patch order.
//
// # Bounds
//
// A patch is untrusted. It has at most MaxOperations operations, at most MaxDepth tokens
// in a pointer, and at most MaxDepth nested objects in a merge patch. The caller bounds
// what copies may add. Texts are parsed one level at a time and only along the path of a
// patch, so each level costs at most the size of the texts. Diff parses both texts down
// to MaxDepth.
package jsondoc

import (
	"errors"
	"fmt"
)

const (
	// MaxOperations is the largest number of operations in a JSON patch.
	MaxOperations = 1000
	// MaxDepth is the largest number of levels that a patch can reach.
	MaxDepth = 128
	// MaxNesting is the deepest nesting of a result. It is one less than the 10,000
	// levels that encoding/json reads, because answers wrap the value in an object.
	MaxNesting = 9999
)

// The kinds of an Error.
var (
	// ErrInvalid means that the text is not a valid patch for any document.
	ErrInvalid = errors.New("invalid patch")
	// ErrConflict means that the patch does not apply to this document.
	ErrConflict = errors.New("patch does not apply")
	// ErrTooLarge means that the result would be larger than the caller allows.
	ErrTooLarge = errors.New("result too large")
)

// An Error describes what is wrong with a patch, or why it does not apply.
type Error struct {
	// Kind is one of the sentinels above.
	Kind error
	// Operation is the index of the operation. It is -1 for a merge patch, and if the
	// error concerns the whole patch.
	Operation int
	// Pointer is the JSON pointer at which the operation failed, if HasPointer.
	Pointer    string
	HasPointer bool
	// Reason describes the problem, without the above.
	Reason string
}

func (e *Error) Error() string {
	if e.Operation < 0 {
		return "patch: " + e.Reason
	}
	return fmt.Sprintf("patch[%d]: %s", e.Operation, e.Reason)
}

// Unwrap returns e.Kind.
func (e *Error) Unwrap() error { return e.Kind }

func invalid(operation int, reason string) error {
	return &Error{Kind: ErrInvalid, Operation: operation, Reason: reason}
}
