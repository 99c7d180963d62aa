package proxy

import (
	"kvstore/gateway/access"
)

// authorize decides whether the request may go on, and if so notes what the backend
// is told of its bearer.
func (c *conn) authorize() (denial *access.Denial) {
	if len(c.req.Target) == 0 {
		return nil // it has no path and is not forwarded
	}
	c.grant, denial = c.p.access.Check(c.req.Path(), c.req.Fields)
	return denial
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
	if c.up != nil && c.stream && !c.p.access.Holds(c.grant) {
		c.endLocked(errRevoked)
		_ = c.SetWriteDeadline(longAgo) // the client may be slow
	}
}
