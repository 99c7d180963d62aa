package proxy

import (
	"fmt"
	"math"
	"net"
	"syscall"
	"time"
)

const (
	// turnedAway is how many clients too many are told so at once; beyond it they are
	// only closed.
	turnedAway = 64
	// turnAwayTime is how long such a client may take to send its request.
	turnAwayTime = time.Second
	// otherFiles is how many open files there may be beside the connections.
	otherFiles = 128
)

// connectionLimit is how many clients' connections there may be: as many as the
// settings say, and as there are files for. Each may need one more to a backend.
func (p *Proxy) connectionLimit() int {
	var files syscall.Rlimit
	// The Go runtime has raised the soft limit to the hard one.
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur > math.MaxInt32 {
		return p.maxConnections
	}
	possible := max((int(files.Cur)-otherFiles)/2, 1)
	if possible >= p.maxConnections {
		return p.maxConnections
	}
	p.logger.Info("fewer connections than KV_MAX_CONNECTIONS, for want of open files (ulimit -n)",
		"connections", possible, "KV_MAX_CONNECTIONS", p.maxConnections, "files", files.Cur)
	return possible
}

// turnAway answers the request of a client for whom there is no connection left.
func (p *Proxy) turnAway(client net.Conn) {
	select {
	case p.refusing <- struct{}{}:
	default:
		p.requests.Refused()
		client.Close()
		return
	}
	c := newConn(p, client)
	c.surplus = true
	p.start(c, func() { <-p.refusing })
}

// refuseSurplus answers whatever the client asks, and ends the connection.
func (c *conn) refuseSurplus() bool {
	c.p.requests.Refused()
	c.req.KeepAlive = false
	c.linger = true
	detail := fmt.Sprintf("The gateway has as many connections as it may have, %d (KV_MAX_CONNECTIONS); nothing was done", c.p.limit)
	return c.answerUnavailable("too_many_connections", detail)
}
