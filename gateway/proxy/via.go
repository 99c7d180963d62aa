package proxy

import (
	"bytes"
	"crypto/rand"
	"net/http"
	"strings"

	"kvstore/gateway/wire"
	"kvstore/internal/problem"
)

// newName returns the name that a gateway has in Via. It is another one for each, so that a
// request with it has been here before.
func newName() string { return "kv-gateway-" + strings.ToLower(rand.Text()[:16]) }

// appendVia tells the backend of this hop, as RFC 9110 wants of a gateway. The answers of
// backends come to the client without: there it may be left out.
func appendVia(to []byte, minor int, name string) []byte {
	to = append(to, "Via: 1."...)
	to = append(to, '0'+byte(minor))
	to = append(to, ' ')
	to = append(to, name...)
	return append(to, "\r\n"...)
}

// isLoop reports whether the request has come through this gateway before.
func (c *conn) isLoop() bool {
	for i := range c.req.Fields {
		field := &c.req.Fields[i]
		if wire.EqualFold(field.Name, "via") && bytes.Contains(field.Value, []byte(c.p.name)) {
			return true
		}
	}
	return false
}

func (c *conn) answerLoop() bool {
	return c.answerProblem(problem.New(http.StatusLoopDetected, "loop_detected", "The request was not done: "+errLoop.Error()))
}
