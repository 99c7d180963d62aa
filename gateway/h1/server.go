package h1

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// patrolInterval is after how long a request counts as slow, so that its client is
	// watched. A fast one need not pay for that.
	patrolInterval = 100 * time.Millisecond
	longestPause   = time.Second // after a failed accept
	// mostSurplus is how many connections there may be beyond the limit, to answer one
	// request each, which must arrive within surplusTime. More are closed at once.
	mostSurplus = 64
	surplusTime = time.Second
)

// Config is what New needs. All fields but Leave and Patrol must be set.
type Config struct {
	// NewHandler returns the handler of a connection from remote.
	NewHandler func(remote net.Addr) Handler
	// Replaced are the names of headers, in lower case, that an answer has from
	// Exchange.ToClient only. What a backend says of them is dropped.
	Replaced []string
	// MaxHeaderBytes bounds the head of a request.
	MaxHeaderBytes int
	// MaxConnections bounds the connections of clients.
	MaxConnections int

	// HeaderTimeout and BodyTimeout bound how long a client may take to send its headers
	// and its body, both from when the request began.
	HeaderTimeout, BodyTimeout time.Duration
	// WriteTimeout bounds how long a client may take for each 32 KiB of an answer.
	WriteTimeout time.Duration
	// IdleTimeout is how long a connection may wait for its next request.
	IdleTimeout time.Duration
	// BackendTimeout bounds the wait for a backend's answer to begin once the request was
	// sent whole, and for each next part of the answer or of the body that it takes.
	BackendTimeout time.Duration
	// DrainTimeout bounds how long Serve waits at its end for the requests in flight.
	DrainTimeout time.Duration

	// Leave is called at the end of Serve, before it stops to accept. Meanwhile each
	// answer ends its connection.
	Leave func()
	// Patrol is called several times a second while Serve runs.
	Patrol func(now time.Time)
	// Logger takes what belongs to no request.
	Logger *slog.Logger
}

// A Server answers clients, by itself or by forwarding. It is made by New.
type Server struct {
	cfg      Config
	replaced *Names[bool]
	base     context.Context //nolint:containedctx // it is no request's

	retries      atomic.Uint64
	leaving      atomic.Bool // answers end their connections
	draining     atomic.Bool // and no request is waited for
	streamsEnded atomic.Bool
	serving      sync.WaitGroup // what Serve has started beside the connections
	connected    sync.WaitGroup // the connections

	mu      sync.Mutex // guards what follows
	conns   map[*conn]struct{}
	surplus int // of conns
}

// New returns a server. What its requests wait for ends with ctx at the latest.
func New(ctx context.Context, cfg Config) *Server {
	s := &Server{cfg: cfg, base: ctx, conns: map[*conn]struct{}{}}
	replaced := map[string]bool{}
	for _, name := range cfg.Replaced {
		replaced[name] = true
	}
	s.replaced = NewNames(replaced)
	return s
}

// Serve answers requests on listener until ctx ends. Then it calls Config.Leave, stops
// accepting, ends streams, waits up to Config.DrainTimeout for the requests in flight and
// returns nil when all were answered. It closes listener in every case. It is called once.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	patrol, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	s.serving.Go(func() { s.patrol(patrol) })
	accepted := make(chan error, 1)
	s.serving.Go(func() { accepted <- s.accept(ctx, listener) })
	select {
	case err := <-accepted:
		s.draining.Store(true)
		s.each((*conn).abort)
		stop()
		s.serving.Wait()
		return fmt.Errorf("serve %s: %w", listener.Addr(), errors.Join(err, listener.Close()))
	case <-ctx.Done():
	}
	s.leaving.Store(true)
	if s.cfg.Leave != nil {
		s.cfg.Leave()
	}
	s.draining.Store(true)
	closing := listener.Close()
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		closing = errors.Join(closing, err)
	}
	s.EndStreams()
	s.each((*conn).endIdle)
	return errors.Join(closing, s.drain(stop))
}

// drain waits for all connections; it ends the patrol with stop.
func (s *Server) drain(stop context.CancelFunc) error {
	ended := make(chan struct{})
	go func() {
		s.connected.Wait()
		close(ended)
	}()
	timer := time.NewTimer(s.cfg.DrainTimeout)
	defer timer.Stop()
	var err error
	select {
	case <-ended:
	case <-timer.C:
		err = fmt.Errorf("drain: requests are still in flight after %s", s.cfg.DrainTimeout)
		s.each((*conn).abort)
		<-ended
	}
	stop()
	s.serving.Wait()
	return err
}

// EndStreams ends every stream, now and from now on. A stream never ends by itself, so a
// server that drains would wait for it in vain.
func (s *Server) EndStreams() {
	s.streamsEnded.Store(true)
	s.each((*conn).endStream)
}

// Leaving reports whether Serve is about to end.
func (s *Server) Leaving() bool { return s.leaving.Load() }

// Connections counts the connections of clients that are open.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Retries counts the requests that were sent anew on another connection.
func (s *Server) Retries() uint64 { return s.retries.Load() }

// accept serves connections until the listener is closed or fails for good.
func (s *Server) accept(ctx context.Context, listener net.Listener) error {
	pause := 5 * time.Millisecond
	for {
		client, err := listener.Accept()
		if err == nil {
			s.serve(client)
			pause = 5 * time.Millisecond
			continue
		}
		var network net.Error
		if ctx.Err() != nil || !errors.As(err, &network) || errors.Is(err, net.ErrClosed) {
			return err
		}
		// Such as too many open files: it may pass.
		s.cfg.Logger.Error("accept", "cause", err.Error(), "pause", pause.String())
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
			pause = min(2*pause, longestPause)
		}
	}
}

// serve answers the requests of a client in a goroutine of its own.
func (s *Server) serve(client net.Conn) {
	c := newConn(s, client)
	if !s.add(c) {
		c.handler.Done(&Exchange{End: TooMany})
		client.Close()
		return
	}
	s.connected.Go(func() {
		defer s.remove(c)
		c.serve()
	})
}

// add notes c, unless there are far too many connections.
func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns)-s.surplus >= s.cfg.MaxConnections {
		if s.surplus == mostSurplus {
			return false
		}
		c.surplus = true
		s.surplus++
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if c.surplus {
		s.surplus--
	}
}

// each calls do for every connection.
func (s *Server) each(do func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		do(c)
	}
}

// patrol looks at all connections again and again.
func (s *Server) patrol(ctx context.Context) {
	ticker := time.NewTicker(patrolInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			s.each((*conn).inspect)
			if s.cfg.Patrol != nil {
				s.cfg.Patrol(now)
			}
		}
	}
}
