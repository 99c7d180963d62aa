package proxy

import (
	"bytes"
	"crypto/rand"
	"net/http"
	"strings"

	"kvstore/gateway/access"
	"kvstore/gateway/wire"
	"kvstore/internal/problem"
)

// malformedRoute is the label of what is no request.
const malformedRoute = "malformed"

// Routes are the labels under which requests are counted: the paths of the OpenAPI
// document. The gateway does not know whether the backend has them all.
func Routes() []string { return append(access.Labels(), malformedRoute) }

// dispatch answers the request as its route says, if its bearer may make it, and reports whether
// another request may follow.
func (c *conn) dispatch() bool {
	kind := c.route.Kind
	switch {
	case c.isLoop():
		return c.answerLoop()
	case c.surplus && kind != access.Alive:
		return c.refuseSurplus()
	case kind != access.Alive && c.overRate():
		return c.refuseOverRate()
	case kind == access.Guarded && c.p.cfg.Access == nil:
		kind = access.Hidden
	}
	switch kind {
	case access.Alive:
		return c.answerAlive()
	case access.Health:
		return c.answerReadOnly(func() bool { return c.counted(c.answerHealth) })
	case access.Insecure:
		return c.answerProblem(problem.New(http.StatusForbidden, "tls_required",
			"The access token was sent without TLS, where others may have seen it; use https://, and a new token"))
	case access.Hidden:
		return c.answerProblem(problem.New(http.StatusNotFound, "not_found", "There is no such endpoint; /docs lists them"))
	case access.Forwarded, access.Batched, access.Streamed, access.Guarded:
		c.stream, c.late = kind == access.Streamed, kind == access.Guarded
	}
	// What has no path needs no right: it is not forwarded.
	if c.p.cfg.Access != nil && len(c.req.Target) > 0 {
		var denial *access.Denial
		if c.grant, denial = c.p.cfg.Access.Check(c.route, c.req.Fields); denial != nil {
			return c.answerDenial(denial)
		}
	}
	return c.counted(c.forward)
}

func (c *conn) answerDenial(denial *access.Denial) bool {
	a := problemAnswer(denial.Problem)
	if challenge := denial.Challenge(); challenge != "" {
		a.header += "WWW-Authenticate: " + challenge + "\r\n"
	}
	return c.answer(a)
}

// endRevoked ends the request under way if it is a stream whose token has expired or
// was revoked. Any other answer ends by itself.
func (c *conn) endRevoked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.up != nil && c.stream && !c.p.cfg.Access.Holds(c.grant) {
		c.endLocked(errRevoked)
		_ = c.SetWriteDeadline(longAgo) // the client may be slow
	}
}

// newName returns the gateway's name in Via. It is unique, so a request that carries it has
// been here before.
func newName() string { return "kv-gateway-" + strings.ToLower(rand.Text()[:16]) }

// appendVia tells the backend of this hop, as RFC 9110 (section 7.6.3) requires of a gateway. In
// answers Via is optional, and the gateway adds none.
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
