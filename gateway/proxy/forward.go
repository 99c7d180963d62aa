package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"kvstore/gateway/access"
	"kvstore/gateway/wire"
	"kvstore/internal/problem"
	"kvstore/internal/settings"
)

// forward sends the request to a backend, passes its answer on and reports
// whether another request may follow.
func (c *conn) forward() bool {
	if err := c.p.pool.differ(); err != nil {
		return c.answerUnavailable("backends_differ", err.Error())
	}
	if len(c.req.Target) == 0 {
		return c.answerProblem(problem.New(http.StatusBadRequest, "bad_request", "The request target has no path"))
	}
	if c.req.Length > c.bodyLimit().Bytes {
		return c.answerTooLarge()
	}
	if c.stream {
		c.p.streams.Add(1)
		defer c.p.streams.Add(-1)
	}
	if c.seenAs.span != nil {
		c.seenAs.span.startClient(c)
	}
	c.out = appendRequest(c.out[:0], &c.req, c.p.name, c.id, c.ip, c.grant.Head, c.seenAs.span)
	rest := c.req.Length // of the body, that is not in out
	if rest > 0 {
		begin := c.in.take(int(min(rest, int64(c.in.len()))))
		c.out = append(c.out, begin...)
		rest -= int64(len(begin))
	}
	if rest > 0 && rest <= smallBody && !c.req.Continue {
		rest = c.awaitBody(int(rest))
	}
	c.unread = rest
	for fresh := false; ; fresh = true {
		up, err := c.connect(fresh)
		if err != nil {
			return c.fail(nil, err)
		}
		again, err := c.try(up, rest)
		if again {
			c.p.retries.Add(1)
			up.Close()
			if cause := c.release(); cause != nil {
				return c.fail(up, cause)
			}
			continue
		}
		if err != nil {
			return c.fail(up, err)
		}
		if c.seenAs.span != nil {
			c.seenAs.span.endClient(c, up, nil)
		}
		return c.relay(up)
	}
}

const (
	smallBody = 16 << 10
	// bodyPause is how long the rest of a small body is waited for.
	bodyPause = 5 * time.Millisecond
)

// awaitBody appends the rest of a small body to out if it arrives at once, and
// returns how much did not. Many clients, net/http's among them and so Traefik,
// send a body right behind its head but in a packet of its own. To pass it on in
// two packets too takes an upload here and one more read in the backend.
func (c *conn) awaitBody(rest int) int64 {
	_ = c.SetReadDeadline(time.Now().Add(bodyPause))
	c.readBy.stale = true
	c.out = slices.Grow(c.out, rest)
	for rest > 0 {
		n, err := c.Read(c.out[len(c.out) : len(c.out)+rest])
		c.out = c.out[:len(c.out)+n]
		if rest -= n; err != nil {
			break // an upload meets it again
		}
	}
	return int64(rest)
}

// try sends the request on up and reads the head of the answer. again says that
// the request may be sent anew: the connection was kept open from an earlier
// request, and either nothing of this one was sent, or it is one that changes
// nothing and nothing of an answer was received.
func (c *conn) try(up *upstream, rest int64) (again bool, err error) {
	next := waiting
	if rest != 0 {
		next = sending
	}
	if err := c.begin(up, next); err != nil {
		return false, err
	}
	now := time.Now() // to connect may have taken longer than the timeout
	up.writeBy.in(now, c.p.cfg.BackendTimeout)
	if n, err := up.Write(c.out); err != nil {
		switch {
		case isTimeout(err):
			return false, err
		case n == 0 && up.reused:
			return true, err
		}
		// A backend may answer and close before it has read all.
		c.broken, rest = true, 0
	}
	switch {
	case rest != 0:
		up.readBy.none() // the upload sets it at its end
		c.startUpload(up, rest)
	case c.stream, c.late:
		up.readBy.none()
	default:
		up.readBy.in(now, c.p.cfg.BackendTimeout)
	}
	c.res.Status = 0
	err = c.readAnswer(up)
	if err == nil {
		return false, nil
	}
	safe := c.req.Length == 0 && (c.toHEAD || string(c.req.Method) == http.MethodGet)
	nothing := c.res.Status == 0 && up.in.len() == 0
	return up.reused && safe && nothing && !isTimeout(err), err
}

const mostInterim = 8

// readAnswer reads the head of the final answer and passes those of interim ones
// on.
func (c *conn) readAnswer(up *upstream) error {
	for range mostInterim {
		if err := up.readHead(&c.res); err != nil {
			return err
		}
		if !c.res.Interim() {
			return nil
		}
		if c.res.Status == http.StatusSwitchingProtocols {
			return errors.New("the backend switches protocols")
		}
		if c.req.Minor == 0 || c.res.Status == http.StatusContinue && !c.req.Continue {
			continue // the client does not understand it, or has not asked
		}
		if err := c.write(appendInterim(nil, &c.res)); err != nil {
			return errClientGone
		}
	}
	return errors.New("the backend does not come to its answer")
}

// fail answers a request that got no answer from a backend. up is the connection
// that it was sent on, if it was.
func (c *conn) fail(up *upstream, err error) bool {
	if c.seenAs.span != nil {
		c.seenAs.span.endClient(c, up, err)
	}
	if up != nil {
		up.abort()
	}
	if cause := c.release(); cause != nil {
		err = cause
	}
	if c.upload != nil {
		c.upload.stop(c)
		if cause := c.upload.clientErr; cause != nil {
			return c.failBody(cause)
		}
		if cause := c.upload.backendErr; isTimeout(cause) {
			err = cause
		}
	}
	ctx := c.context()
	switch {
	case errors.Is(err, errStreamsEnded):
		c.endedStream()
		return c.answerUnavailable("backend_unavailable", "Backend service is unavailable")
	case errors.Is(err, errRevoked):
		c.endedStream()
		return c.answerDenial(access.Revoked)
	case errors.Is(err, errClientGone), errors.Is(err, errAborted):
		c.p.logger.DebugContext(ctx, "client went away")
		return false
	}
	backend := ""
	if up != nil {
		backend = up.backend.url.Host
	}
	c.p.logger.WarnContext(ctx, "no answer from backend", "backend", backend, "cause", err.Error())
	switch {
	case errors.Is(err, errLoop):
		return c.answerLoop()
	case errors.Is(err, ErrBackendsDiffer):
		return c.answerUnavailable("backends_differ", err.Error())
	case isTimeout(err):
		return c.answerProblem(problem.New(http.StatusGatewayTimeout, "backend_timeout", "Backend service timed out"))
	default:
		return c.answerUnavailable("backend_unavailable", "Backend service is unavailable")
	}
}

// endedStream lets the client get an answer: endStream has set a deadline in the past.
func (c *conn) endedStream() {
	c.stream, c.writeBy.stale = false, true
}

// failBody answers a request whose body could not be read. The rest of it may
// still be on its way, so the connection ends.
func (c *conn) failBody(cause error) bool {
	var malformed *wire.Error
	switch {
	case errors.Is(cause, errTooLarge):
		return c.answerTooLarge()
	case isTimeout(cause):
		return c.answerProblem(problem.New(http.StatusRequestTimeout, "request_timeout",
			fmt.Sprintf("body: did not arrive within %s (KV_BODY_TIMEOUT)", c.p.cfg.BodyTimeout)))
	case errors.As(cause, &malformed):
		return c.answerProblem(problem.New(http.StatusBadRequest, "bad_request", "The request body is malformed"))
	}
	c.p.logger.DebugContext(c.context(), "client went away while sending its body")
	return false
}

func (c *conn) answerTooLarge() bool {
	c.req.KeepAlive = false
	return c.answerProblem(problem.New(http.StatusRequestEntityTooLarge, "value_too_large", c.bodyLimit().Exceeded()))
}

func (c *conn) bodyLimit() settings.BodyLimit {
	if c.route.Kind == access.Batched {
		return settings.LimitOfBatch(c.p.cfg.MaxValueBytes)
	}
	return settings.LimitOfBody(c.p.cfg.MaxValueBytes)
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
