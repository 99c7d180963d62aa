package api

import (
	"fmt"
	"math"
	"net/http"
	"strconv"

	"kvstore/internal/parameters"
	"kvstore/internal/problem"
)

// A query has the parameters of a request, and reads them.
type query struct{ parameters.Set }

// positive returns a positive integer, 0 when there is none.
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

// limit returns the number of items of a page: at least 1, at most highest.
func (q query) limit(usual, highest int) (int, error) {
	if !q.Has("limit") {
		return usual, nil
	}
	n, err := strconv.Atoi(q.Text("limit"))
	if err != nil || n < 1 || n > highest {
		return 0, invalid("limit", fmt.Sprintf("must be an integer from 1 to %d", highest))
	}
	return n, nil
}

// boolean returns true or false, false when there is none.
func (q query) boolean(name string) (bool, error) { return q.booleanOr(name, false) }

// booleanOr returns true or false, and usual when there is none.
func (q query) booleanOr(name string, usual bool) (bool, error) {
	switch text := q.Text(name); {
	case !q.Has(name):
		return usual, nil
	case text == "false":
		return false, nil
	case text == "true":
		return true, nil
	default:
		return false, invalid(name, "must be true or false")
	}
}

// invalid is the problem of a parameter; its code is invalid_ and the name.
func invalid(name, rule string) error {
	return problem.New(http.StatusUnprocessableEntity, "invalid_"+name, name+": "+rule)
}
