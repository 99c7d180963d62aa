// Package jsondoc changes and compares JSON texts without rewriting them: merge
// patches (RFC 7396), JSON patches (RFC 6902) and the difference of two texts as a
// JSON patch.
//
// What a patch does not touch keeps its text: numbers every digit, strings their
// escapes, members their order. An object or array on the way to a change loses the
// space between its members, and of several members with one name the last stays,
// as encoding/json and most others read it. New members come last, in the order of
// the patch.
//
// # Bounds
//
// A patch is untrusted. It has at most MaxOperations operations, its pointers have at
// most MaxDepth tokens and merge patches at most MaxDepth objects in one another; what
// its copies add is bounded by the caller. Texts are opened a level at a time and
// only where a patch leads, so the work is at most the size of the texts for each level;
// Diff opens both down to MaxDepth.
package jsondoc

import (
	"errors"
	"fmt"
)

const (
	// MaxOperations is how many operations a JSON patch may have.
	MaxOperations = 1000
	// MaxDepth is how many levels deep a patch may reach.
	MaxDepth = 128
	// MaxNesting is how many arrays and objects may stand in one another in a result:
	// encoding/json reads 10,000, and an answer puts the value into an object.
	MaxNesting = 9999
)

// The kinds of an Error.
var (
	// ErrInvalid: the text is no patch; which document it is for does not matter.
	ErrInvalid = errors.New("invalid patch")
	// ErrConflict: the patch cannot be applied to this document.
	ErrConflict = errors.New("patch does not apply")
	// ErrTooLarge: the result would be larger than the caller allows.
	ErrTooLarge = errors.New("result too large")
)

// An Error says what is wrong with a patch, or why it does not apply.
type Error struct {
	// Kind is one of the sentinels above.
	Kind error
	// Operation is the index of the operation, -1 in a merge patch and when the patch
	// as a whole is meant.
	Operation int
	// Pointer is the JSON pointer that the operation failed at, when HasPointer.
	Pointer    string
	HasPointer bool
	// Reason says in words what is wrong, without the above.
	Reason string
}

func (e *Error) Error() string {
	if e.Operation < 0 {
		return "patch: " + e.Reason
	}
	return fmt.Sprintf("patch[%d]: %s", e.Operation, e.Reason)
}

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Kind }

func invalid(operation int, reason string) error {
	return &Error{Kind: ErrInvalid, Operation: operation, Reason: reason}
}
