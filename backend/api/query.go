package api

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"kvstore/backend/kv"
	"kvstore/internal/parameters"
	"kvstore/internal/problem"
	"kvstore/internal/rfc3339"
)

// A query has the parameters of a request.
type query struct{ parameters.Set }

// invalid is the problem of a parameter; its code is invalid_ and the name.
func invalid(name, rule string) error {
	return problem.New(http.StatusUnprocessableEntity, "invalid_"+name, name+": "+rule)
}

// positive returns a positive integer, 0 if the parameter is not given.
func (q query) positive(name string) (int64, error) {
	if !q.Has(name) {
		return 0, nil
	}
	n, err := strconv.ParseInt(q.Text(name), 10, 64)
	if err != nil || n < 1 {
		return 0, invalid(name, fmt.Sprintf("must be a positive integer of at most %d", int64(math.MaxInt64)))
	}
	return n, nil
}

var revisionRule = fmt.Sprintf("must be a revision, an integer from 0 to %d", int64(math.MaxInt64))

// parseRevision returns a revision of the store, which may be 0.
func parseRevision(text string) (revision int64, ok bool) {
	n, err := strconv.ParseUint(text, 10, 63)
	return int64(n), err == nil
}

// The number of items of a page.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// limit returns the number of items of a page.
func (q query) limit() (int, error) {
	if !q.Has("limit") {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(q.Text("limit"))
	if err != nil || n < 1 || n > maxLimit {
		return 0, invalid("limit", fmt.Sprintf("must be an integer from 1 to %d", maxLimit))
	}
	return n, nil
}

// boolean returns true or false, byDefault if the parameter is not given.
func (q query) boolean(name string, byDefault bool) (bool, error) {
	switch text := q.Text(name); {
	case !q.Has(name):
		return byDefault, nil
	case text == "false":
		return false, nil
	case text == "true":
		return true, nil
	default:
		return false, invalid(name, "must be true or false")
	}
}

// partOfKey returns a text that follows the rules of a key, or is empty.
func (q query) partOfKey(name string) (string, error) {
	text := q.Text(name)
	if text == "" {
		return "", nil
	}
	var wrong *kv.Error
	if errors.As(kv.CheckKey(text), &wrong) {
		return "", invalid(name, wrong.Detail)
	}
	return text, nil
}

const (
	timeRule = "must be a time of RFC 3339 such as 2025-11-24T16:00:00.123456Z, " +
		"or Unix seconds such as 1764000000.123456, from the year 0000 to 9999"
	micros     = 1_000_000
	minSeconds = -62167219200 // the first second of the year 0000
	maxSeconds = 253402300799 // the last second of the year 9999
)

// time returns a time, cut to microseconds. It never converts to a float, so a timestamp
// of an answer names that very time.
func (q query) time(name string) (kv.Timestamp, error) {
	text := q.Text(name)
	if at, ok := parseSeconds(text); ok {
		return at, nil
	}
	const offset = len("+00:00")
	if i := len(text) - offset; i > 0 && text[i] == ' ' { // a plus that was not escaped
		text = text[:i] + "+" + text[i+1:]
	}
	if at, ok := rfc3339.Parse(text); ok {
		return kv.NewTimestamp(at), nil
	}
	return 0, invalid(name, timeRule)
}

// parseSeconds parses decimal digits, optionally with a minus sign in front and a point
// and more digits behind.
func parseSeconds(text string) (kv.Timestamp, bool) {
	text, negative := strings.CutPrefix(text, "-")
	whole, fraction, pointed := strings.Cut(text, ".")
	if !digits(whole) || pointed && !digits(fraction) {
		return 0, false
	}
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || seconds > maxSeconds {
		return 0, false
	}
	const places = len("000000")
	padded := fraction + "000000"
	part, err := strconv.ParseInt(padded[:places], 10, 64)
	at := seconds*micros + part
	if negative {
		if at = -at; strings.Trim(padded[places:], "0") != "" {
			at--
		}
	}
	return kv.Timestamp(at), err == nil && at >= minSeconds*micros
}

func digits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}
