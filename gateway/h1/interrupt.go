package h1

import (
	"context"
	"time"
)

// A phase is what a connection does, as far as other goroutines need to know.
type phase uint8

const (
	reading phase = iota // it reads or writes; no other goroutine may read
	idle                 // it waits for the next request
	sending              // an upload reads the body
	duplex               // and the answer has begun
	waiting              // the whole request was sent, and the client has nothing to send
)

func (c *conn) become(next phase) {
	c.mu.Lock()
	c.phase = next
	c.turn++
	c.mu.Unlock()
}

// becomeIdle reports whether another request may follow: not when the server drains.
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

// endIdle ends the connection if it waits for a request, and none has arrived.
func (c *conn) endIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != idle {
		return // peek would take the error of a broken connection away from watch
	}
	found := peekNothing
	if c.raw != nil {
		_ = c.raw.Control(func(fd uintptr) { found = peek(fd) }) // fails on a closed connection
	}
	if found != peekData {
		_ = c.SetReadDeadline(longAgo)
	}
}

// abort ends the connection at once.
func (c *conn) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(errAborted)
	c.Close()
}

// endStream ends the current request if it is a stream.
func (c *conn) endStream() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.up != nil && c.decision.Stream != nil {
		c.endStreamLocked(ErrStreamsEnded)
	}
}

func (c *conn) endStreamLocked(cause error) {
	c.endLocked(cause)
	_ = c.SetWriteDeadline(longAgo) // a slow client may block a write
}

// endLocked ends the current request and the connection to its backend.
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

// await runs do, which waits for something. The context ends when the client breaks the connection
// or the server stops. It returns why another goroutine ended the request, or nil.
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

// begin notes that the request uses up. It fails for a stream if streams have ended.
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

// release notes that the request no longer uses a connection to a backend, nor waits. It returns
// why another goroutine ended the request, or nil.
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

// inspect begins to watch the client if the request was already waiting at the last inspection,
// and ends a stream whose time has come. Watching every client would cost each request two more
// switches between goroutines.
func (c *conn) inspect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == waiting && c.turn == c.seen && c.watcher == nil && c.raw != nil {
		// The deadline may still be that of the head. release has the next one set anew.
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

// watch ends the request if the client breaks the connection. It returns when release stops it, or
// when the client sends something, such as its next request. A client that only closes its sending
// side may still read, and is answered. Only a write shows whether it does, so the backend of a
// stream is told, and writes.
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
