package api

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"kvstore/internal/problem"
)

// A query is the parsed query of a request.
type query struct{ values url.Values }

// queryOf parses the query. A semicolon is a character like any other, as it is
// behind Traefik, which escapes it; net/url refuses it.
func queryOf(c *gin.Context) (query, error) {
	if c.Request.URL.RawQuery == "" {
		return query{}, nil
	}
	values, err := url.ParseQuery(strings.ReplaceAll(c.Request.URL.RawQuery, ";", "%3B"))
	if err != nil {
		return query{}, problem.New(http.StatusBadRequest, "malformed_query", "query: "+err.Error())
	}
	return query{values}, nil
}

func (q query) has(name string) bool    { return q.values.Has(name) }
func (q query) text(name string) string { return q.values.Get(name) }

// positive returns a positive integer, 0 when there is none.
func (q query) positive(name string) (int64, error) {
	if !q.has(name) {
		return 0, nil
	}
	n, err := strconv.ParseInt(q.text(name), 10, 64)
	if err != nil || n < 1 {
		return 0, invalid(name, fmt.Sprintf("must be a positive integer of at most %d", int64(math.MaxInt64)))
	}
	return n, nil
}

// limit returns the number of items of a page: at least 1, at most highest.
func (q query) limit(usual, highest int) (int, error) {
	if !q.has("limit") {
		return usual, nil
	}
	n, err := strconv.Atoi(q.text("limit"))
	if err != nil || n < 1 || n > highest {
		return 0, invalid("limit", fmt.Sprintf("must be an integer from 1 to %d", highest))
	}
	return n, nil
}

// boolean returns true or false, false when there is none.
func (q query) boolean(name string) (bool, error) {
	switch text := q.text(name); {
	case !q.has(name) || text == "false":
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
