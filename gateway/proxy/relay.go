package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"kvstore/gateway/wire"
)

// relay passes the answer on, of which the head was read, and reports whether
// another request may follow. An answer that does not come to its end ends the
// client's connection, so that it does not look whole.
func (c *conn) relay(up *upstream) bool {
	sent := !c.broken // the whole request
	if u := c.upload; u != nil {
		if sent = u.readWhole.Load(); sent {
			<-u.done
			sent = u.sent
		}
	}
	none := c.res.NoBody(c.toHEAD)
	toClose := !none && (c.res.Length == wire.UntilClose || c.res.Length == wire.Chunked && c.req.Minor == 0)
	keep := sent && !toClose && c.req.KeepAlive && !c.p.leaving.Load() && !c.surplus
	c.linger = c.linger || !sent
	c.status = c.res.Status
	c.out = c.appendAnswer(c.out[:0], keep, none)
	r := &relaying{conn: c, up: up, sent: sent}
	var whole bool
	switch {
	case none || c.res.Length == 0:
		whole = r.finish(c.out)
	case c.res.Length == wire.Chunked:
		whole = r.chunks(c.req.Minor == 0)
	case c.res.Length == wire.UntilClose:
		r.untilClose()
	default:
		whole = r.bytes(c.res.Length)
	}
	if r.unfit != nil {
		c.status = 0
		return c.fail(up, r.unfit)
	}
	if !whole {
		r.cut()
	}
	return whole && keep
}

// appendAnswer appends the head of the answer as the client gets it.
func (c *conn) appendAnswer(to []byte, keep, none bool) []byte {
	res := &c.res
	to = appendStatus(to, res)
	to = appendEndToEnd(to, res)
	if !slices.ContainsFunc(res.Fields, isDate) { // RFC 9110, section 6.6.1
		to = append(time.Now().UTC().AppendFormat(append(to, "Date: "...), http.TimeFormat), "\r\n"...)
	}
	to = wire.AppendField(to, requestIDHeader, c.id)
	to = c.appendSecurity(to)
	switch {
	case res.HasLength() && res.Status != http.StatusNoContent:
		to = appendLength(to, res.Length)
	case !none && res.Length == wire.Chunked && c.req.Minor == 1:
		to = append(to, chunkedHeader...)
	}
	return append(c.appendConnection(to, keep), "\r\n"...)
}

// appendConnection tells the client whether another request may follow.
func (c *conn) appendConnection(to []byte, keep bool) []byte {
	switch {
	case !keep:
		return append(to, "Connection: close\r\n"...)
	case c.req.Minor == 0:
		return append(to, "Connection: keep-alive\r\n"...)
	}
	return to
}

func isDate(field wire.Field) bool { return field.Kind == wire.Date }

func appendStatus(to []byte, res *wire.Response) []byte {
	to = append(to, "HTTP/1.1 "...)
	to = strconv.AppendInt(to, int64(res.Status), 10)
	to = append(to, ' ')
	to = append(to, res.Reason...)
	return append(to, "\r\n"...)
}

func appendInterim(to []byte, res *wire.Response) []byte {
	return append(appendEndToEnd(appendStatus(to, res), res), "\r\n"...)
}

// appendEndToEnd appends the headers that are not of the backend's connection, nor
// said by the gateway in every answer.
func appendEndToEnd(to []byte, res *wire.Response) []byte {
	for i := range res.Fields {
		switch field := &res.Fields[i]; field.Kind {
		case wire.Plain, wire.Date, wire.Expect, wire.ForwardedFor, wire.ForwardedHost, wire.ForwardedProto,
			wire.Authorization:
			if !field.Named {
				to = wire.AppendField(to, field.Name, field.Value)
			}
		case wire.Host, wire.ContentLength, wire.TransferEncoding, wire.Connection, wire.HopByHop, wire.RequestID, wire.Internal, wire.Security:
		}
	}
	return to
}

// relaying is an answer on its way. conn.out begins with its head; every method
// that passes a body on reports whether all of it was.
type relaying struct {
	*conn

	up    *upstream
	sent  bool
	unfit error // why the answer is none; nothing of it was sent
	over  bool  // the connection to the backend was given back
	reset bool  // the client's connection is to be
}

// finish writes the last part of the answer. The connection to the backend is
// free before that, for the next request of another client.
func (r *relaying) finish(last []byte) bool {
	r.giveBack(r.sent && r.res.KeepAlive && r.up.in.len() == 0)
	return r.write(last) == nil
}

// giveBack keeps the connection to the backend if another request may use it.
// What a backend sends behind its answer belongs to no request.
func (r *relaying) giveBack(usable bool) {
	r.over = true
	if !usable {
		r.up.abort()
	}
	if cause := r.release(); cause != nil {
		r.up.abort()
		usable = false
	}
	if r.upload != nil && !r.sent {
		r.upload.stop(r.conn)
	}
	if usable {
		r.up.backend.reserve.put(r.up, r.began)
	}
}

// cut ends both connections.
func (r *relaying) cut() {
	if !r.over {
		r.giveBack(false)
	}
	plain := r.req.Minor == 0 && r.res.Length == wire.Chunked
	if tcp, ok := r.Conn.(*net.TCPConn); ok && (r.reset || plain) {
		_ = tcp.SetLinger(0) // closing is how such an answer ends well; a reset is not
	}
	r.linger = false
	r.in = buffer{}
}

// bytes passes on a body of a known length.
func (r *relaying) bytes(left int64) bool {
	begin := r.up.in.take(int(min(left, int64(r.up.in.len()))))
	r.out = append(r.out, begin...)
	if left -= int64(len(begin)); left == 0 {
		return r.finish(r.out)
	}
	if r.write(r.out) != nil {
		return false
	}
	scratch, _ := largeBuffers.Get().(*[largeBuffer]byte)
	defer largeBuffers.Put(scratch)
	for {
		r.awaitPart(r.up)
		n, err := r.up.Read(scratch[:min(left, largeBuffer)])
		if left -= int64(n); left == 0 {
			return r.finish(scratch[:n])
		}
		if n > 0 && r.write(scratch[:n]) != nil {
			return false
		}
		if err != nil {
			r.brokeOff(err)
			return false
		}
	}
}

// chunks passes on a chunked body; plain, without the chunks, to HTTP/1.0.
func (r *relaying) chunks(plain bool) bool {
	var chunks wire.Chunks
	for first := true; ; first = false {
		for r.up.in.len() > 0 && !chunks.Ended() {
			data, used, err := chunks.Next(r.up.in.bytes())
			if err != nil && first {
				r.unfit = err
				return false
			}
			if err != nil {
				r.brokeOff(err)
				return false
			}
			if plain {
				r.out = append(r.out, data...)
			} else {
				r.out = wire.AppendChunk(r.out, data)
			}
			r.up.in.take(used)
		}
		if chunks.Ended() {
			if !plain {
				r.out = wire.AppendLastChunk(r.out)
			}
			return r.finish(r.out)
		}
		if len(r.out) > 0 && r.write(r.out) != nil {
			return false
		}
		r.out = r.out[:0]
		if first && r.stream {
			r.describe() // as long as the head is there
			r.lighten()
		}
		r.awaitPart(r.up)
		if err := r.up.in.fill(r.up.Conn, largeBuffer); err != nil {
			r.brokeOff(err)
			return false
		}
	}
}

// untilClose passes on a body whose end only the backend's closing tells. The
// client is told in the same way, and knows as little whether all has arrived.
func (r *relaying) untilClose() {
	for {
		r.out = append(r.out, r.up.in.take(r.up.in.len())...)
		if len(r.out) > 0 && r.write(r.out) != nil {
			return
		}
		r.out = r.out[:0]
		r.awaitPart(r.up)
		if err := r.up.in.fill(r.up.Conn, largeBuffer); err != nil {
			r.reset = !errors.Is(err, io.EOF)
			return
		}
	}
}

// brokeOff logs that the backend did not finish its answer.
func (r *relaying) brokeOff(err error) {
	cause := r.release()
	r.giveBack(false)
	if cause != nil || r.upload != nil && r.upload.clientErr != nil {
		return // it was made to
	}
	r.p.logger.WarnContext(r.context(), "backend broke its answer off",
		"backend", r.up.backend.url.Host, "cause", err.Error())
}
