package api

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
	"kvstore/internal/problem"
)

// The headers in which the gateway names the bearer of the access token and the keys
// that the bearer may read and write. The gateway removes them from what clients send. A
// client of the backend itself may do everything, so it may send them too.
const (
	authorHeader        = "X-Kv-Author"
	readPrefixesHeader  = "X-Kv-Read-Prefixes"
	writePrefixesHeader = "X-Kv-Write-Prefixes"
)

// maxPrefixes is how many prefixes one of these headers may have.
const maxPrefixes = 64

// prefixesOf returns the keys that begin with one of the prefixes in a header, which are
// percent-encoded and separated by commas. Without the header it returns all keys, for an
// empty one none.
func prefixesOf(c *gin.Context, header string) (kv.Prefixes, error) {
	values := c.Request.Header[header]
	switch {
	case len(values) == 0:
		return kv.AllKeys(), nil
	case len(values) == 1 && values[0] == "":
		return kv.Prefixes{}, nil
	}
	elements := strings.SplitN(values[0], ",", maxPrefixes+1)
	if len(values) > 1 || len(elements) > maxPrefixes {
		return nil, malformedHeader(header, fmt.Sprintf("must be there once and have at most %d prefixes", maxPrefixes))
	}
	for i, element := range elements {
		prefix, err := url.PathUnescape(element)
		if err == nil {
			err = kv.CheckKey(prefix) // an empty prefix is an error: without the header it is all keys
		}
		if err != nil {
			return nil, malformedHeader(header, "must have prefixes of keys, percent-encoded and separated by commas")
		}
		elements[i] = prefix
	}
	return kv.NewPrefixes(elements), nil
}

func malformedHeader(name, rule string) error {
	return problem.New(http.StatusBadRequest, "malformed_header", name+": "+rule)
}

// readable returns the keys under prefix that the bearer may read. It is an error if the
// bearer may read none of them.
func readable(c *gin.Context, prefix string) (kv.Prefixes, error) {
	allowed, err := prefixesOf(c, readPrefixesHeader)
	if err != nil {
		return nil, err
	}
	keys := allowed.Under(prefix)
	if len(keys) == 0 {
		return nil, forbidden(c, "read", fmt.Sprintf("any key with the prefix '%s'", prefix))
	}
	return keys, nil
}

// forbidden is the problem of a bearer that lacks a right.
func forbidden(c *gin.Context, right, what string) *problem.Problem {
	c.Header("WWW-Authenticate", `Bearer realm="kv", error="insufficient_scope"`)
	return problem.New(http.StatusForbidden, "forbidden",
		fmt.Sprintf("The access token '%s' does not have the right %s for %s", c.Request.Header.Get(authorHeader), right, what)).With("right", right)
}
