package kv

import (
	"fmt"
	"slices"
)

// A Condition must hold for a write to be made. The zero Condition always holds. If several
// fields are set, all must hold.
type Condition struct {
	// Exists requires that the key exists.
	Exists bool
	// Absent requires that the key does not exist.
	Absent bool
	// OneOf, if not nil, requires that the key exists and its latest version is one of these.
	OneOf []int64
	// NoneOf requires that the latest version, if the key exists, is none of these.
	NoneOf []int64
}

// Holds reports whether the condition holds for a key whose latest version is current, 0 for
// a key that does not exist.
func (c Condition) Holds(current int64) bool {
	switch exists := current != 0; {
	case c.Exists && !exists, c.Absent && exists:
		return false
	case c.OneOf != nil && (!exists || !slices.Contains(c.OneOf, current)):
		return false
	default:
		return !exists || !slices.Contains(c.NoneOf, current)
	}
}

// Check returns nil if the condition holds, else a *PreconditionError.
func (c Condition) Check(key string, current int64) error {
	if c.Holds(current) {
		return nil
	}
	return &PreconditionError{Index: -1, Key: key, Current: current}
}

// A PreconditionError is ErrPreconditionFailed. It says which condition does not hold,
// and what was found.
type PreconditionError struct {
	// Index is that of the condition in a batch, -1 without one.
	Index int
	Key   string
	// Current is the key's latest version, 0 if the key does not exist.
	Current int64
	// Meanwhile means that an earlier operation of the same batch, which is not made either,
	// would have written the key.
	Meanwhile bool
}

func (e *PreconditionError) Error() string {
	found := fmt.Sprintf("Key '%s' is at version %d", e.Key, e.Current)
	if e.Current == 0 {
		found = fmt.Sprintf("Key '%s' does not exist", e.Key)
	}
	if e.Meanwhile {
		found += ", and an earlier operation of this batch would have changed it"
	}
	if e.Index >= 0 {
		return fmt.Sprintf("conditions[%d]: %s", e.Index, found)
	}
	return "Precondition failed: " + found
}

// Unwrap returns ErrPreconditionFailed.
func (e *PreconditionError) Unwrap() error { return ErrPreconditionFailed }
