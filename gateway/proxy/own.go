package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"kvstore/internal/parameters"
	"kvstore/internal/problem"
	"kvstore/internal/telemetry"
)

// An ownAnswer collects an answer of the gateway's own.
type ownAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *ownAnswer) Header() http.Header { return a.header }

func (a *ownAnswer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *ownAnswer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// answerReadOnly lets GET and HEAD through to serve, which knows no parameter.
func (c *conn) answerReadOnly(serve func(http.ResponseWriter, *http.Request)) bool {
	method := string(c.req.Method)
	if method != http.MethodGet && method != http.MethodHead {
		return c.answer(func(w http.ResponseWriter) {
			w.Header().Set("Allow", "GET, HEAD")
			problem.New(http.StatusMethodNotAllowed, "method_not_allowed", method+" is not allowed here; allowed: GET, HEAD").Write(w)
		})
	}
	var refusal *problem.Problem
	if _, err := parameters.Parse(string(c.req.Query())); errors.As(err, &refusal) {
		return c.answerProblem(refusal)
	}
	ctx, cancel := context.WithCancel(c.context())
	defer cancel()
	r := (&http.Request{Method: method, URL: &url.URL{}, Header: http.Header{}}).WithContext(ctx)
	return c.answer(func(w http.ResponseWriter) { serve(w, r) })
}

func (c *conn) answerUnavailable(code, detail string) bool {
	return c.answer(func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", "1")
		problem.New(http.StatusServiceUnavailable, code, detail).Write(w)
	})
}

func (c *conn) answerProblem(p *problem.Problem) bool {
	return c.answer(func(w http.ResponseWriter) { p.Write(w) })
}

// answer sends what write writes and reports whether another request may follow.
func (c *conn) answer(write func(http.ResponseWriter)) bool {
	a := &ownAnswer{header: http.Header{}}
	write(a)
	whole := c.dropBody() // whether or not another may follow: it decides how the connection ends
	keep := c.req.KeepAlive && whole && !c.p.leaving.Load() && !c.surplus
	a.header.Set("Content-Length", strconv.Itoa(a.body.Len()))
	a.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	a.header.Set(telemetry.RequestIDHeader, c.id)
	switch {
	case !keep:
		a.header.Set("Connection", "close")
	case c.req.Minor == 0:
		a.header.Set("Connection", "keep-alive")
	}
	c.status = a.status
	var out bytes.Buffer
	fmt.Fprintf(&out, "HTTP/1.1 %d %s\r\n", a.status, problem.Phrase(a.status))
	_ = a.header.Write(&out) // a bytes.Buffer does not fail
	out.WriteString("\r\n")
	if !c.toHEAD {
		out.Write(a.body.Bytes())
	}
	return c.write(out.Bytes()) == nil && keep
}

// dropBody reports whether nothing of the request is left to read, and drops its
// body if it is in the buffer. The rest of a longer one would be in the way of the
// next request.
func (c *conn) dropBody() bool {
	switch {
	case !c.unread:
		return true
	case c.upload != nil:
		if c.upload.readWhole.Load() {
			return true
		}
	case c.req.Length > 0 && c.req.Length <= int64(c.in.len()):
		c.in.take(int(c.req.Length))
		return true
	}
	c.linger = true
	return false
}
