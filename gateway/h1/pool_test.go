package h1_test

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"kvstore/gateway/h1"
)

// What is left of a peak is closed step by step, except a few, and these in the end.
func TestIdleConnectionsBecomeFewer(t *testing.T) {
	const clients = 200
	var pool h1.Pool
	var closed atomic.Int32
	now := time.Now()
	for range clients {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { theirs.Close() })
		pool.Put(closing{ours, &closed}, now)
	}
	for _, step := range []struct{ before, at, want int }{ // seconds, and connections
		{-9, 4, 200}, {1, 6, 132}, {6, 10, 132}, {6, 12, 98}, {12, 60, 81}, {60, 89, 72}, {89, 100, 0},
	} {
		after := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
		if got := pool.ShrinkFrom(after(step.before), after(step.at)); got != step.want {
			t.Errorf("after %d s: %d, want %d", step.at, got, step.want)
		}
		if open := clients - int(closed.Load()); open != step.want {
			t.Errorf("after %d s: %d are open, want %d", step.at, open, step.want)
		}
	}
}

// closing counts closed connections.
type closing struct {
	net.Conn

	closed *atomic.Int32
}

func (c closing) Close() error {
	c.closed.Add(1)
	return c.Conn.Close()
}
