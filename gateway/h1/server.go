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
	// patrolInterval is the time between two inspections of all connections. Requests that take
	// longer are watched. Fast ones do not pay for that.
	patrolInterval = 100 * time.Millisecond
	longestPause   = time.Second // after a failed accept
	// mostSurplus connections beyond the limit are accepted, for one request each, which must
	// arrive within surplusTime. More are closed at once.
	mostSurplus = 64
	surplusTime = time.Second
)

// Limits bound what clients and backends may take.
type Limits struct {
	// MaxConnections bounds the connections of clients, MaxHeaderBytes the head of a request.
	MaxConnections, MaxHeaderBytes int
	// HeaderTimeout and BodyTimeout bound how long a client may take to send the headers and
	// the body, both from the beginning of the request.
	HeaderTimeout, BodyTimeout time.Duration
	// WriteTimeout bounds how long a client may take to read each 32 KiB of an answer, some of
	// which the system buffers.
	WriteTimeout time.Duration
	// IdleTimeout bounds the wait for the next request on a connection.
	IdleTimeout time.Duration
	// BackendTimeout bounds how long a backend may take to begin its answer, after it got the
	// whole request, to send each next part of it, and to accept each next part of a body.
	BackendTimeout time.Duration
	// DrainTimeout bounds how long Serve waits in the end for requests in flight.
	DrainTimeout time.Duration
}

// Config is what New needs.
type Config struct {
	Limits

	// NewHandler returns the handler of a connection from remote.
	NewHandler func(remote net.Addr) Handler
	// Replaced lists names of headers, in lower case, that are dropped from the answers of
	// backends.
	Replaced []string
	// Leave is called when Serve is to end, before it stops accepting. Meanwhile every answer
	// ends its connection.
	Leave func()
	// Patrol is called several times a second.
	Patrol func(now time.Time)
	// Logger gets messages that belong to no request.
	Logger *slog.Logger
}

// A Server serves clients, as its handlers decide.
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

// New returns a server. The contexts of Exchange.Wait and Order.All end with ctx.
func New(ctx context.Context, cfg Config) *Server {
	s := &Server{cfg: cfg, base: ctx, conns: map[*conn]struct{}{}}
	replaced := map[string]bool{}
	for _, name := range cfg.Replaced {
		replaced[name] = true
	}
	s.replaced = NewNames(replaced)
	return s
}

// Serve serves listener until ctx ends. Then it calls Config.Leave, stops accepting, ends streams,
// waits up to DrainTimeout for the requests in flight, and returns nil if all were answered. It
// always closes listener. It must be called only once.
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
	s.cfg.Leave()
	s.draining.Store(true)
	closing := listener.Close()
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		closing = errors.Join(closing, err)
	}
	s.EndStreams()
	s.each((*conn).endIdle)
	return errors.Join(closing, s.drain(stop))
}

// drain waits for all connections and then ends the patrol with stop.
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

// EndStreams ends all streams, and any that begins later. A stream does not end by itself, so a
// server could not drain.
func (s *Server) EndStreams() {
	s.streamsEnded.Store(true)
	s.each((*conn).endStream)
}

// Leaving reports whether Serve is to end.
func (s *Server) Leaving() bool { return s.leaving.Load() }

// Connections returns the number of open connections of clients.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Retries returns how often a request was sent again on another connection.
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
		// It may pass, such as too many open files.
		s.cfg.Logger.Error("accept", "cause", err.Error(), "pause", pause.String())
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
			pause = min(2*pause, longestPause)
		}
	}
}

// serve serves a client in a goroutine of its own.
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

// add adds c, unless there are far too many connections.
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

// patrol inspects all connections again and again.
func (s *Server) patrol(ctx context.Context) {
	ticker := time.NewTicker(patrolInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			s.each((*conn).inspect)
			s.cfg.Patrol(now)
		}
	}
}
