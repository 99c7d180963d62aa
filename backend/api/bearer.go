package api

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"

	"kvstore/backend/kv"
	"kvstore/backend/store"
	"kvstore/internal/problem"
)

// The headers by which the gateway tells who the bearer of the access token is, and
// which keys they may read and write. It takes them out of what clients send. Whoever
// reaches the backend itself may do everything, and may write them.
const (
	authorHeader        = "X-Kv-Author"
	readPrefixesHeader  = "X-Kv-Read-Prefixes"
	writePrefixesHeader = "X-Kv-Write-Prefixes"
)

// The bounds of these headers.
const (
	maxAuthorBytes = 128
	maxPrefixes    = 64
)

// authorOf returns the name of who writes, "" when that is not known.
func authorOf(c *gin.Context) (string, error) {
	values := c.Request.Header[authorHeader]
	if len(values) == 0 {
		return "", nil
	}
	author := values[0]
	unseen := func(r rune) bool { return r <= ' ' || r > '~' }
	if len(values) > 1 || len(author) > maxAuthorBytes || strings.ContainsFunc(author, unseen) {
		return "", badHeader(authorHeader, fmt.Sprintf("must be at most %d visible characters of ASCII", maxAuthorBytes))
	}
	return author, nil
}

// prefixesOf returns the keys that a header names: those that begin with one of its
// prefixes, which are percent-encoded and separated by commas. Without the header they
// are all keys, with an empty one none.
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
		return nil, badHeader(header, fmt.Sprintf("must be there once and have at most %d prefixes", maxPrefixes))
	}
	for i, element := range elements {
		prefix, err := url.PathUnescape(element)
		if err == nil && prefix == "" {
			err = kv.ErrInvalidKey // "all keys" is said by leaving the header out
		}
		if err == nil {
			err = kv.CheckPrefix(prefix)
		}
		if err != nil {
			return nil, badHeader(header, "must have prefixes of keys, percent-encoded and separated by commas")
		}
		elements[i] = prefix
	}
	return kv.NewPrefixes(elements), nil
}

func badHeader(name, rule string) error {
	return problem.New(http.StatusBadRequest, "malformed_header", name+": "+rule)
}

// readable returns the keys under prefix that the bearer may read. There is at least
// one prefix of such keys, or the error says that there is none.
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

// forbidden is the problem of a right that the bearer does not have.
func forbidden(c *gin.Context, right, what string) *problem.Problem {
	c.Header("WWW-Authenticate", `Bearer realm="kv", error="insufficient_scope"`)
	return problem.New(http.StatusForbidden, "forbidden",
		fmt.Sprintf("The access token '%s' does not have the right %s for %s", c.Request.Header.Get(authorHeader), right, what)).With("right", right)
}

// authorizeBatch returns a problem for the first condition or operation that the
// bearer has no right to, and makes the bearer the author of every change. A condition
// reads: its answer tells the version of a key.
func authorizeBatch(c *gin.Context, requirements []store.Requirement, changes []store.Change) error {
	author, err := authorOf(c)
	if err != nil {
		return err
	}
	read, err := prefixesOf(c, readPrefixesHeader)
	if err != nil {
		return err
	}
	write, err := prefixesOf(c, writePrefixesHeader)
	if err != nil {
		return err
	}
	for i, r := range requirements {
		if !read.Has(r.Key) {
			return inBatch(forbidden(c, "read", fmt.Sprintf("the key '%s'", r.Key)), "condition", i)
		}
	}
	for i := range changes {
		changes[i].Author = author
		keys, right := write, "write"
		if changes[i].Operation == store.OpGet {
			keys, right = read, "read"
		}
		if !keys.Has(changes[i].Key) {
			return inBatch(forbidden(c, right, fmt.Sprintf("the key '%s'", changes[i].Key)), "operation", i)
		}
	}
	return nil
}

// inBatch says which condition or operation a problem is of.
func inBatch(p *problem.Problem, name string, index int) error {
	p.Detail = fmt.Sprintf("%ss[%d]: %s", name, index, p.Detail)
	return p.With(name, index)
}
