package kv

import (
	"fmt"
	"unicode/utf8"
)

// MaxKeyBytes is the length of the longest key.
const MaxKeyBytes = 512

// CheckKey returns an error that wraps ErrInvalidKey and says what is wrong
// unless key is 1 to MaxKeyBytes bytes of UTF-8 without a control character
// (U+0000 to U+001F, U+007F). Everything else is allowed and opaque.
func CheckKey(key string) error {
	switch {
	case key == "":
		return &Error{ErrInvalidKey, "key: must not be empty"}
	case len(key) > MaxKeyBytes:
		return &Error{ErrInvalidKey, fmt.Sprintf("key: has %d bytes, the limit is %d", len(key), MaxKeyBytes)}
	case !utf8.ValidString(key):
		return &Error{ErrInvalidKey, "key: is not valid UTF-8 after percent-decoding"}
	}
	for i := range len(key) {
		if c := key[i]; c < 0x20 || c == 0x7f {
			return &Error{ErrInvalidKey, fmt.Sprintf("key: has the control character U+%04X at byte %d", c, i)}
		}
	}
	return nil
}
