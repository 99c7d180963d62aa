package kv

import (
	"errors"
	"fmt"
)

// ErrOverloaded says that more waits already than may. Nothing was written, and the same
// request will work when less does.
var ErrOverloaded = errors.New("overloaded")

// TooManyWrites says how many writes may wait, and the option to change that.
func TooManyWrites(limit int) error {
	return &Error{ErrOverloaded, fmt.Sprintf("Overloaded: %d writes wait already, which is the limit (KV_MAX_QUEUED_WRITES); nothing was written", limit)}
}

// TooManyBytes says how many bytes of values may wait, and the option to change that.
func TooManyBytes(limit int64) error {
	return &Error{ErrOverloaded, fmt.Sprintf("Overloaded: the values that wait to be written come to the limit of %d bytes (KV_MAX_QUEUED_BYTES); nothing was written", limit)}
}

// TooManyAnswerBytes says how many bytes of answers may wait, and the option to change
// that.
func TooManyAnswerBytes(limit int64) error {
	return &Error{ErrOverloaded, fmt.Sprintf("Overloaded: the answers that wait for their clients come to the limit of %d bytes (KV_MAX_QUEUED_BYTES)", limit)}
}

// TooManyRequests says how many requests may be under way, and the option to change
// that.
func TooManyRequests(limit int) error {
	return &Error{ErrOverloaded, fmt.Sprintf("Overloaded: %d requests are under way, which is the limit (KV_MAX_REQUESTS); nothing was done", limit)}
}
