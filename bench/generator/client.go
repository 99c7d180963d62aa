package generator

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"syscall"
	"time"
)

// patience bounds the time without any answer from a store.
const patience = 20 * time.Second

// A Result is the result of one run of a load.
type Result struct {
	Requests uint64 // with a right answer
	Errors   uint64 // with a wrong answer; not in Requests or Latency
	Broken   uint64 // requests whose connection broke before the answer was complete
	Error    string // the first wrong answer or broken connection
	Elapsed  time.Duration
	Latency  Histogram
}

// Merge adds the result of another run.
func (r *Result) Merge(other *Result) {
	r.Requests += other.Requests
	r.Errors += other.Errors
	r.Broken += other.Broken
	r.Elapsed += other.Elapsed
	if r.Error == "" {
		r.Error = other.Error
	}
	r.Latency.Merge(&other.Latency)
}

// A Client is a number of connections to a store.
type Client struct {
	codec   Codec
	keys    *Keys
	epoll   int
	conns   []*connection
	pending int // requests in flight
	value   []byte
	result  *Result
}

type connection struct {
	number int
	to     syscall.SockaddrInet4
	fd     int
	out    []byte
	in     []byte
	length int // bytes in in

	request
}

// A request is a request in flight.
type request struct {
	key      int
	put      bool
	sequence uint64 // in the value of a write
	floor    int64  // the highest known version of key when the request was sent
	sent     time.Time
}

// Open connects to a store at one or more IPv4 addresses, among which the connections are spread.
func Open(addresses []string, codec Codec, keys *Keys, connections int) (*Client, error) {
	var all []syscall.SockaddrInet4
	for _, address := range addresses {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return nil, err
		}
		if !to.Addr().Is4() {
			return nil, fmt.Errorf("%s is not an IPv4 address", address)
		}
		all = append(all, syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	}
	c := &Client{codec: codec, keys: keys}
	var err error
	c.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	for i := range connections {
		conn := &connection{number: i, fd: -1, to: all[i%len(all)], in: make([]byte, 16<<10)}
		c.conns = append(c.conns, conn)
		if err := c.connect(conn); err != nil {
			c.Close()
			return nil, fmt.Errorf("connect to %s: %w", addresses[i%len(all)], err)
		}
	}
	return c, nil
}

// connect opens a connection again.
func (c *Client) connect(conn *connection) error {
	if conn.fd >= 0 {
		_ = syscall.Close(conn.fd)
	}
	conn.length = 0
	var err error
	conn.fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := syscall.Connect(conn.fd, &conn.to); err != nil {
		return err
	}
	if err := syscall.SetNonblock(conn.fd, true); err != nil {
		return err
	}
	if err := syscall.SetsockoptInt(conn.fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		return err
	}
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(conn.number)}
	return syscall.EpollCtl(c.epoll, syscall.EPOLL_CTL_ADD, conn.fd, &event)
}

// Close closes all connections.
func (c *Client) Close() {
	for _, conn := range c.conns {
		_ = syscall.Close(conn.fd)
	}
	_ = syscall.Close(c.epoll)
}

// Fill writes every key. If a connection breaks, it writes the key again, and the next Run counts it.
// A wrong answer is an error.
func (c *Client) Fill() error {
	key := -1
	result, err := c.run(func(time.Time) (int, bool, bool) {
		key++
		return key, true, key < c.keys.load.Keys
	}, true)
	c.keys.broken, c.keys.brokenError = result.Broken, result.Error
	if err == nil && result.Errors > 0 {
		err = fmt.Errorf("%d of %d writes: %s", result.Errors, c.keys.load.Keys, result.Error)
	}
	return err
}

// Run sends requests chosen by pick for a duration, and then waits for the missing answers. After an
// error, the connections are unusable.
func (c *Client) Run(d time.Duration, pick Picker) (Result, error) {
	end := time.Now().Add(d)
	return c.run(func(now time.Time) (int, bool, bool) {
		if !now.Before(end) {
			return 0, false, false
		}
		key, put := pick()
		return key, put, true
	}, false)
}

// Sweep reads every key once.
func (c *Client) Sweep() (Result, error) {
	key := -1
	return c.run(func(time.Time) (int, bool, bool) {
		key++
		return key, false, key < c.keys.load.Keys
	}, false)
}

// A source returns the next request, or more = false if there is none.
type source func(now time.Time) (key int, put, more bool)

func (c *Client) run(next source, fill bool) (Result, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c.result, c.pending = &Result{Broken: c.keys.broken, Error: c.keys.brokenError}, 0
	c.keys.broken, c.keys.brokenError = 0, ""
	start := time.Now()
	for _, conn := range c.conns {
		if err := c.send(conn, next, fill, time.Now()); err != nil {
			return Result{}, err
		}
	}
	events := make([]syscall.EpollEvent, len(c.conns))
	for c.pending > 0 {
		n, err := syscall.EpollWait(c.epoll, events, int(patience/time.Millisecond))
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return Result{}, err
		case n == 0:
			return Result{}, fmt.Errorf("no answer to %d requests within %s", c.pending, patience)
		}
		for _, event := range events[:n] {
			conn := c.conns[event.Fd]
			now, done, err := c.receive(conn)
			if err != nil {
				err = c.mend(conn, err)
				now, done = time.Now(), !fill
				if err == nil && fill {
					err = c.write(conn) // retry
				}
			}
			if err == nil && done {
				err = c.send(conn, next, fill, now)
			}
			if err != nil {
				return Result{}, err
			}
		}
	}
	c.result.Elapsed = time.Since(start)
	return *c.result, nil
}

// send sends the next request, if there is one.
func (c *Client) send(conn *connection, next source, fill bool, now time.Time) error {
	key, put, more := next(now)
	if !more {
		return nil
	}
	conn.request = request{key: key, put: put, floor: c.keys.acked[key], sent: now}
	name := c.keys.names[key]
	if put {
		conn.sequence = uint64(key)
		if !fill {
			c.keys.issued++
			conn.sequence = c.keys.issued
		}
		c.value = AppendValue(c.value[:0], name, conn.sequence)
		conn.out = c.codec.AppendPut(conn.out[:0], name, c.value)
	} else {
		conn.out = c.codec.AppendGet(conn.out[:0], name)
	}
	return c.write(conn)
}

// mostBroken bounds the broken connections in a run.
const mostBroken = 100

// mend counts a broken connection and opens it again.
func (c *Client) mend(conn *connection, cause error) error {
	c.pending--
	c.result.Broken++
	if conn.put {
		c.keys.unknown++
	}
	if c.result.Error == "" {
		c.result.Error = cause.Error()
	}
	if c.result.Broken > mostBroken {
		return cause
	}
	return c.connect(conn)
}

// write sends the request in conn.out, which is far smaller than the empty buffer of the socket.
func (c *Client) write(conn *connection) error {
	n, err := syscall.Write(conn.fd, conn.out)
	if err == nil && n < len(conn.out) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("send a request: %w", err)
	}
	c.pending++
	return nil
}

// receive reads what has arrived. If that completes the answer, it returns the time and true.
func (c *Client) receive(conn *connection) (time.Time, bool, error) {
	n, err := syscall.Read(conn.fd, conn.in[conn.length:])
	switch {
	case errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR):
		return time.Time{}, false, nil
	case err != nil:
		return time.Time{}, false, fmt.Errorf("read an answer: %w", err)
	case n <= 0:
		return time.Time{}, false, fmt.Errorf("read an answer: the connection was closed after %q", conn.in[:conn.length])
	}
	conn.length += n
	answer, length, err := c.codec.Parse(conn.in[:conn.length], conn.put)
	if length == 0 {
		return time.Time{}, false, err
	}
	if length < conn.length {
		return time.Time{}, false, fmt.Errorf("%w: something follows %q", errBroken, conn.in[:length])
	}
	now := time.Now()
	conn.length = 0
	c.pending--
	if err == nil {
		err = c.keys.check(&conn.request, answer)
	}
	if err != nil {
		c.result.Errors++
		if c.result.Error == "" {
			c.result.Error = err.Error()
		}
		return now, true, nil
	}
	c.result.Requests++
	c.result.Latency.Add(now.Sub(conn.sent))
	return now, true, nil
}
