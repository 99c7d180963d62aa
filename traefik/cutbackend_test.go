package traefik_test

import (
	"bytes"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// cutConnections closes connections between gateway and backend under load just when an
// answer arrives, so that the write was made but the gateway does not know it. The gateway
// must not send it again.
func cutConnections(t *testing.T, table *faultTable) {
	cutter := newCutter(t)
	backend := freeAddress(t)
	cutter.to.Store(&backend)
	newStack(t, "KV_BACKEND_ADDR="+backend, "KV_BACKENDS=http://"+cutter.address())
	load := startTraffic(t, "k")
	load.more(t, 200)
	begin := time.Now()
	for range rounds(10, 100) {
		cutter.due.Store(true)
		load.more(t, 50)
	}
	if c := table.survived(t, load, begin); c.refused+c.cut == 0 {
		t.Error("nothing failed: the fault was none")
	}
}

// A cutter forwards connections. On demand it drops the answer to a write and closes the
// connection.
type cutter struct {
	net.Listener

	to  atomic.Pointer[string]
	due atomic.Bool
}

func newCutter(t *testing.T) *cutter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{Listener: listener}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go c.pass(client)
		}
	}()
	return c
}

func (c *cutter) address() string { return c.Addr().String() }

func (c *cutter) pass(client net.Conn) {
	defer client.Close()
	to := c.to.Load()
	if to == nil {
		return
	}
	backend, err := net.Dial("tcp", *to)
	if err != nil {
		return
	}
	defer backend.Close()
	go func() {
		defer backend.Close()
		_, _ = io.Copy(backend, client)
	}()
	buffer := make([]byte, 64<<10)
	for answers := 0; ; answers++ {
		n, err := backend.Read(buffer)
		written := answers > 0 && bytes.Contains(buffer[:n], []byte(`"operation":"update"`))
		if err != nil || written && c.due.CompareAndSwap(true, false) {
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}
