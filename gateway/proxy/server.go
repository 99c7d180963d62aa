package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"kvstore/internal/telemetry"
)

const (
	// patrolInterval is after how long a request counts as slow, so that its
	// client is watched. A fast one need not pay for that.
	patrolInterval = 100 * time.Millisecond
	longestPause   = time.Second // after a failed accept
)

// Serve answers requests on listener until ctx ends; then it lets load balancers
// know (see leave), stops accepting, cuts streams, waits up to Config.DrainTimeout for the requests in flight and returns nil when
// all were answered. It closes listener in every case. It is called once.
func (p *Proxy) Serve(ctx context.Context, listener net.Listener) error {
	p.logger.Info("listening", "address", listener.Addr().String(), "version", telemetry.Version)
	patrol, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	p.serving.Go(func() { p.patrol(patrol) })
	p.limit = p.connectionLimit()
	accepted := make(chan error, 1)
	p.serving.Go(func() { accepted <- p.accept(ctx, listener) })
	select {
	case err := <-accepted:
		p.draining.Store(true)
		p.each((*conn).abort)
		stop()
		p.serving.Wait()
		return fmt.Errorf("serve %s: %w", listener.Addr(), errors.Join(err, listener.Close()))
	case <-ctx.Done():
	}
	p.logger.Info("stopping: requests in flight are answered first")
	p.leave()
	p.draining.Store(true)
	closing := listener.Close()
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		closing = errors.Join(closing, err)
	}
	p.EndStreams()
	p.each((*conn).endIdle)
	return errors.Join(closing, p.drain(stop))
}

// drain waits for all connections; it ends the patrol with stop.
func (p *Proxy) drain(stop context.CancelFunc) error {
	ended := make(chan struct{})
	go func() {
		p.connected.Wait()
		close(ended)
	}()
	timer := time.NewTimer(p.cfg.DrainTimeout)
	defer timer.Stop()
	var err error
	select {
	case <-ended:
	case <-timer.C:
		err = fmt.Errorf("drain: requests are still in flight after %s", p.cfg.DrainTimeout)
		p.each((*conn).abort)
		<-ended
	}
	stop()
	p.serving.Wait()
	return err
}

// accept serves connections until the listener is closed or fails for good.
func (p *Proxy) accept(ctx context.Context, listener net.Listener) error {
	pause := 5 * time.Millisecond
	for {
		client, err := listener.Accept()
		if err == nil {
			p.serveClient(client)
			pause = 5 * time.Millisecond
			continue
		}
		var network net.Error
		if ctx.Err() != nil || !errors.As(err, &network) || errors.Is(err, net.ErrClosed) {
			return err
		}
		// Such as too many open files: it may pass.
		p.logger.Error("accept", "cause", err.Error(), "pause", pause.String())
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
			pause = min(2*pause, longestPause)
		}
	}
}

// serveClient answers the requests of one connection in a goroutine of its own.
func (p *Proxy) serveClient(client net.Conn) {
	if p.connections() >= p.limit+len(p.refusing) {
		p.turnAway(client)
		return
	}
	p.start(newConn(p, client), func() {})
}

// start serves c and calls ended after its end.
func (p *Proxy) start(c *conn, ended func()) {
	p.mu.Lock()
	p.conns[c] = struct{}{}
	p.mu.Unlock()
	p.connected.Go(func() {
		defer ended()
		c.serve()
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
	})
}

// each calls do for every client's connection.
func (p *Proxy) each(do func(*conn)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		do(c)
	}
}

// patrol looks at all connections again and again.
func (p *Proxy) patrol(ctx context.Context) {
	ticker := time.NewTicker(patrolInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			p.each((*conn).watchWhenSlow)
			if p.cfg.Access != nil {
				p.each((*conn).endRevoked)
			}
			p.clients.forget(now)
			for _, b := range p.pool.backends {
				b.reserve.shrink(now)
			}
		}
	}
}
