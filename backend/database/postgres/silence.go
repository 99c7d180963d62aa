package postgres

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// silenceTimeout bounds how long a server that was asked something may say nothing.
const silenceTimeout = 15 * time.Second

var errSilent = fmt.Errorf("the server has said nothing for %s", silenceTimeout)

// An impatientConn fails when the other side says nothing for silenceTimeout: one that was cut off or has
// stopped does not say so. It is for connections on which nobody waits unless for an answer.
type impatientConn struct {
	net.Conn
	mu       sync.Mutex
	deadline time.Time // of the caller
}

// NetConn returns the connection below, as that of package tls does.
func (c *impatientConn) NetConn() net.Conn { return c.Conn }

// SetDeadline is the only one of its kind that the driver calls.
func (c *impatientConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return c.Conn.SetDeadline(t)
}

func (c *impatientConn) Read(p []byte) (int, error) {
	c.extend(c.SetReadDeadline)
	n, err := c.Conn.Read(p)
	return n, c.explain(err)
}

func (c *impatientConn) Write(p []byte) (int, error) {
	c.extend(c.SetWriteDeadline)
	n, err := c.Conn.Write(p)
	return n, c.explain(err)
}

// extend leaves a deadline of the caller, which ends what is under way.
func (c *impatientConn) extend(set func(time.Time) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadline.IsZero() {
		_ = set(time.Now().Add(silenceTimeout)) // a connection that was closed says so at the next step
	}
}

// explain makes an error of its own deadline one that the driver does not take for that of the caller,
// after which it would go on to read.
func (c *impatientConn) explain(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadline.IsZero() && errors.Is(err, os.ErrDeadlineExceeded) {
		return errSilent
	}
	return err
}
