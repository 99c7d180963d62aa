package proxy

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"kvstore/gateway/wire"
	"kvstore/internal/parameters"
	"kvstore/internal/problem"
)

// An answer is one of the gateway's own. Nobody may cache it.
type answer struct {
	status int
	kind   string // Content-Type
	header string // further lines, each with its CR LF
	body   []byte
}

func jsonAnswer(body []byte) answer {
	return answer{status: http.StatusOK, kind: "application/json", body: body}
}

// problemAnswer adds Retry-After where the same request may be answered soon.
func problemAnswer(p *problem.Problem) answer {
	a := answer{status: p.Status, kind: problem.ContentType, body: p.Encode()}
	if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
		a.header = "Retry-After: 1\r\n"
	}
	return a
}

func (c *conn) answerProblem(p *problem.Problem) bool { return c.answer(problemAnswer(p)) }

func (c *conn) answerUnavailable(code, detail string) bool {
	return c.answerProblem(problem.New(http.StatusServiceUnavailable, code, detail))
}

// answerReadOnly lets GET and HEAD through to serve, which knows no parameter and no
// condition.
func (c *conn) answerReadOnly(serve func() bool) bool {
	if method := string(c.req.Method); method != http.MethodGet && method != http.MethodHead {
		a := problemAnswer(problem.New(http.StatusMethodNotAllowed, "method_not_allowed", method+" is not allowed here; allowed: GET, HEAD"))
		a.header = "Allow: GET, HEAD\r\n"
		return c.answer(a)
	}
	var refusal *problem.Problem
	if _, err := parameters.Parse(string(c.req.Query())); errors.As(err, &refusal) {
		return c.answerProblem(refusal)
	}
	for _, field := range c.req.Fields {
		if wire.EqualFold(field.Name, "if-match") || wire.EqualFold(field.Name, "if-none-match") {
			return c.answerProblem(problem.New(http.StatusBadRequest, "unsupported_condition", string(field.Name)+": is not a condition of this request"))
		}
	}
	return serve()
}

// answer sends a and reports whether another request may follow.
func (c *conn) answer(a answer) bool {
	whole := c.dropBody() // whether or not another may follow: it decides how the connection ends
	keep := c.req.KeepAlive && whole && !c.p.leaving.Load() && !c.surplus
	c.status = a.status
	to := c.out[:0]
	to = append(to, "HTTP/1.1 "...)
	to = strconv.AppendInt(to, int64(a.status), 10)
	to = append(to, ' ')
	to = append(to, problem.Phrase(a.status)...)
	to = append(to, "\r\nContent-Type: "...)
	to = append(to, a.kind...)
	to = append(to, "\r\nCache-Control: no-store\r\nDate: "...)
	to = time.Now().UTC().AppendFormat(to, http.TimeFormat)
	to = append(to, "\r\n"...)
	to = append(to, a.header...)
	to = wire.AppendField(to, requestIDHeader, c.id)
	to = c.appendSecurity(to)
	to = appendLength(to, int64(len(a.body)))
	to = c.appendConnection(to, keep)
	to = append(to, "\r\n"...)
	if !c.toHEAD {
		to = append(to, a.body...)
	}
	c.out = to
	return c.write(to) == nil && keep
}

// dropBody reports whether nothing of the request is left to read. It drops a body that is
// in the buffer. A longer one that has not been sent on it reads first, within the bounds
// of skip, and the connection ends: a proxy in front of the gateway stops sending when
// the answer comes, and its client would then find a broken connection in place of the
// answer. A client that waits for 100 (Continue) is answered at once.
func (c *conn) dropBody() bool {
	have := int64(c.in.len())
	switch {
	case c.unread == 0:
		return true
	case c.upload != nil:
		if c.upload.readWhole.Load() {
			return true
		}
	case c.unread > 0 && c.unread <= have:
		c.in.take(int(c.unread))
		return true
	case c.unread > 0 && c.unread <= lingerBytes && !c.req.Continue && !c.surplus:
		c.in.take(int(have))
		if c.skip(c.unread - have) {
			return false
		}
	}
	c.linger = true
	return false
}
