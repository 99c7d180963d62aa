package h1

import (
	"context"
	"time"
)

// A phase is what a connection does, as far as others have to know.
type phase uint8

const (
	reading phase = iota // or writing; nobody else may touch it
	idle                 // waits for the next request
	sending              // the client's body is on its way
	duplex               // and so is the answer, already
	waiting              // the request was sent whole; the client has nothing to say
)

func (c *conn) become(next phase) {
	c.mu.Lock()
	c.phase = next
	c.turn++
	c.mu.Unlock()
}

// becomeIdle reports false when the gateway drains and no request may follow.
func (c *conn) becomeIdle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server.draining.Load() {
		return false
	}
	c.phase = idle
	c.turn++
	return true
}

// endIdle ends the connection if it waits for a request and none has arrived.
func (c *conn) endIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == idle && !c.hasInput() {
		_ = c.SetReadDeadline(longAgo)
	}
}

// hasInput reports whether something has arrived that was not read yet.
func (c *conn) hasInput() bool {
	found := peekNothing
	if c.raw != nil {
		_ = c.raw.Control(func(fd uintptr) { found = peek(fd) }) // fails on a closed connection
	}
	return found == peekData
}

// abort ends the connection, whatever it does.
func (c *conn) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(errAborted)
	c.Close()
}

// endStream ends the request under way if it is a stream.
func (c *conn) endStream() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.up != nil && c.decision.Stream != nil {
		c.endStreamLocked(ErrStreamsEnded)
	}
}

func (c *conn) endStreamLocked(cause error) {
	c.endLocked(cause)
	_ = c.SetWriteDeadline(longAgo) // the client may be slow
}

// endLocked ends the request under way: its backend sees the connection close.
func (c *conn) endLocked(cause error) {
	if c.cause == nil {
		c.cause = cause
	}
	if c.up != nil {
		c.up.abort()
	}
	if c.giveUp != nil {
		c.giveUp()
	}
}

// await runs do, which waits for something other than the client. The context ends when the
// client goes away or the gateway stops. await returns why others have ended the request, if they
// have, and nil if not.
func (c *conn) await(do func(context.Context)) error {
	ctx, cancel := context.WithCancel(c.server.base)
	defer cancel()
	c.mu.Lock()
	c.giveUp, c.cause = cancel, nil
	c.phase = waiting
	c.turn++
	c.mu.Unlock()
	do(ctx)
	return c.release()
}

// begin says that the request goes to up, from now on in phase next. It returns
// an error when it must not, since it is a stream and streams have ended.
func (c *conn) begin(up *upstream, next phase) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.decision.Stream != nil && c.server.streamsEnded.Load() {
		return ErrStreamsEnded
	}
	c.up, c.cause = up, nil
	c.phase = next
	c.turn++
	return nil
}

// release says that the connection to the backend is not in use any more. It
// returns why others have ended the request, if they have, and nil if not.
func (c *conn) release() error {
	c.mu.Lock()
	c.up, c.giveUp = nil, nil
	c.phase = reading
	c.turn++
	watcher, cause := c.watcher, c.cause
	c.watcher = nil
	c.mu.Unlock()
	if cause != nil {
		c.writeBy.stale = true // endStream has set a deadline
	}
	if watcher != nil {
		_ = c.SetReadDeadline(longAgo)
		<-watcher
		c.readBy.stale = true
	}
	return cause
}

// inspect watches the client of a request that was already waiting at the last
// inspection, and ends a stream that is to end. To watch every client would cost each
// request two more switches between goroutines.
func (c *conn) inspect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == waiting && c.turn == c.seen && c.watcher == nil && c.raw != nil {
		// The deadline may be one for the head; release makes the next one new.
		_ = c.SetReadDeadline(time.Time{})
		c.watcher = make(chan struct{})
		go c.watch(c.watcher)
	}
	c.seen = c.turn
	if c.up != nil && c.decision.Stream != nil {
		if err := c.decision.Stream(); err != nil {
			c.endStreamLocked(err)
		}
	}
}

// watch ends the request when its client breaks the connection, until release stops it
// or the client sends something, which may be its next request. A client that only
// closes its sending side has said all and is answered. Whether it still reads, writing
// to it tells; so the backend of a stream learns of it, and writes.
func (c *conn) watch(ended chan struct{}) {
	defer close(ended)
	found := peekNothing
	err := c.raw.Read(func(fd uintptr) bool {
		found = peek(fd)
		return found != peekNothing // false: wait until there is something
	})
	if err != nil || found == peekData {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.watcher != ended:
	case found == peekBroken:
		c.endLocked(errClientGone)
	case c.decision.Stream != nil && c.up != nil:
		if half, ok := c.up.Conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite() // fails on a closed connection
		}
	}
}
